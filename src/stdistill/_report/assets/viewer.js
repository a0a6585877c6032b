// The viewer of a slide: layers over the H&E, a scale bar, a link to a place, and the niche of a cell.
"use strict";
(function () {
  const read = (id) => JSON.parse((document.getElementById(id) || { textContent: "{}" }).textContent);
  const slide = read("viewer-data");
  const inline = read("inline-data");
  const address = (path) => inline[path] || path;
  const all = (selector) => Array.from(document.querySelectorAll(selector));

  document.querySelector(".viewer").hidden = false;
  // A canvas without WebGL: images of a page that was opened by double click may not be read as textures.
  const viewer = OpenSeadragon({
    element: document.getElementById("view"),
    drawer: "canvas",
    showNavigationControl: false,
    showNavigator: false,
    animationTime: 0.4,
    maxZoomPixelRatio: 4,
    minZoomImageRatio: 0.8,
    visibilityRatio: 0.3,
    subPixelRoundingForTransparency: OpenSeadragon.SUBPIXEL_ROUNDING_OCCURRENCES.ALWAYS,
    gestureSettingsMouse: { clickToZoom: false, dblClickToZoom: true },
    gestureSettingsTouch: { clickToZoom: false },
  });
  viewer.canvas.setAttribute("role", "application");
  viewer.canvas.setAttribute("aria-label",
    "The slide. Arrow keys move, plus and minus zoom, Enter names the niche in the middle.");

  // Layers: pyramids of tiles, those that are empty do not exist.
  const images = {};
  const fade = (key) => {
    const box = document.querySelector(`[data-layer="${CSS.escape(key)}"]`);
    const range = document.querySelector(`[data-fade="${CSS.escape(key)}"]`);
    images[key].setOpacity(box.checked ? range.value / 100 : 0);
  };
  for (const picture of slide.pictures) {
    const last = picture.levels - 1;
    const shrinkage = (level) => 2 ** (last - level);
    const columns = (level) => Math.ceil(Math.ceil(picture.width / shrinkage(level)) / slide.tile);
    viewer.addTiledImage({
      tileSource: {
        width: picture.width, height: picture.height, tileSize: slide.tile, tileOverlap: 0,
        minLevel: 0, maxLevel: last,
        getTileUrl: (level, x, y) => address(`${picture.key}/${level}/${x}_${y}.${picture.ending}`),
        tileExists: (level, x, y) =>
          level >= 0 && level <= last && picture.there[level][y * columns(level) + x] === "1",
        hasTransparency: () => picture.ending === "png",
      },
      x: 0, y: 0, width: (picture.width * ratio(picture)) / slide.width,
      opacity: 0, preload: false,
      success: (event) => { images[picture.key] = event.item; fade(picture.key); ready(); },
    });
  }
  // Pixels of the finest H&E per pixel of a picture: a power of two, and a last pixel may not be complete.
  function ratio(picture) { return 2 ** Math.round(Math.log2(slide.width / picture.width)); }

  let nReady = 0;
  function ready() {
    nReady += 1;
    if (nReady < slide.pictures.length) return;
    // They came in any order.
    slide.pictures.forEach((picture, at) => viewer.world.setItemIndex(images[picture.key], at));
    for (const input of all("[data-layer], [data-fade]"))
      input.addEventListener("input", () => fade(input.dataset.layer || input.dataset.fade));
    if (!go()) viewer.viewport.goHome(true);
    update();
    document.documentElement.dataset.ready = "yes";
  }

  // Places: a viewport is 1 wide where the H&E is; pixels are those of the finest H&E, µm those of the cells.
  const toPixel = (point) => ({ x: point.x * slide.width, y: point.y * slide.width });
  const [[a, b, c], [d, e, f]] = slide.toUm;
  const toUm = (pixel) => ({ x: a * pixel.x + b * pixel.y + c, y: d * pixel.x + e * pixel.y + f });
  const fromUm = (um) => {
    const [x, y, size] = [um.x - c, um.y - f, a * e - b * d];
    return { x: (e * x - b * y) / size, y: (a * y - d * x) / size };
  };
  const umPerScreenPixel = () => (slide.width * slide.mpp) / (viewer.viewport.getZoom(true) * viewer.container.clientWidth);

  function hash() {
    const um = toUm(toPixel(viewer.viewport.getCenter(true)));
    const width = umPerScreenPixel() * viewer.container.clientWidth;
    return `#x=${um.x.toFixed(1)}&y=${um.y.toFixed(1)}&width=${width.toFixed(1)}`;
  }
  function go() {
    const found = new URLSearchParams(location.hash.slice(1));
    const [x, y, width] = ["x", "y", "width"].map((name) => parseFloat(found.get(name)));
    if (![x, y, width].every(Number.isFinite) || width <= 0) return false;
    const pixel = fromUm({ x, y });
    viewer.viewport.zoomTo((slide.width * slide.mpp) / width, undefined, true);
    viewer.viewport.panTo(new OpenSeadragon.Point(pixel.x / slide.width, pixel.y / slide.width), true);
    return true;
  }
  window.addEventListener("hashchange", go);

  // Scale bar: the longest of 1, 2 and 5 times a power of ten µm that is shorter than 160 pixels.
  function update() {
    const longest = 160 * umPerScreenPixel();
    const power = 10 ** Math.floor(Math.log10(longest));
    const length = [5, 2, 1].map((step) => step * power).find((one) => one <= longest);
    const bar = document.querySelector(".bar span");
    bar.textContent = length >= 1000 ? `${length / 1000} mm` : `${length} µm`;
    bar.style.width = `${length / umPerScreenPixel()}px`;
    document.getElementById("place").href = hash();
  }
  viewer.addHandler("update-viewport", update);
  viewer.addHandler("resize", () => setTimeout(update, 0));

  // Buttons and keys.
  const acts = {
    in: () => viewer.viewport.zoomBy(1.6),
    out: () => viewer.viewport.zoomBy(1 / 1.6),
    home: () => viewer.viewport.goHome(),
    full: () => viewer.setFullScreen(true),
  };
  for (const button of all("[data-act]"))
    button.addEventListener("click", () => { acts[button.dataset.act](); viewer.viewport.applyConstraints(); });
  viewer.addHandler("canvas-key", (event) => {
    if (event.originalEvent.key !== "Enter") return;
    event.preventDefaultAction = true;
    pick(viewer.viewport.getCenter(true));
  });
  viewer.addHandler("canvas-click", (event) => {
    if (event.quick) pick(viewer.viewport.pointFromPixel(event.position));
  });

  // Cells: a script for each square, loaded when it is asked for.
  const known = new Set(slide.squares);
  const squares = {};
  const waiting = {};
  window.stdistillCells = (name, text) => {
    const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
    const n = bytes.length / (4 + slide.layers.length);
    const [column, row] = name.split("_").map(Number);
    const view = new DataView(bytes.buffer);
    const at = (start, i, corner) => corner * slide.bin + view.getUint16(2 * (start + i), true) / slide.parts;
    squares[name] = { n, x: (i) => at(0, i, column), y: (i) => at(n, i, row),
      code: (layer, i) => bytes[(4 + layer) * n + i] };
  };
  function load(name) {
    if (squares[name]) return Promise.resolve();
    if (!waiting[name]) waiting[name] = new Promise((done) => {
      const script = document.createElement("script");
      script.onload = script.onerror = done;
      script.src = address(`cells/${name}.js`);
      document.head.append(script);
    });
    return waiting[name];
  }
  async function nearest(pixel) {
    const reach = slide.reachUm / slide.mpp;
    const names = new Set();
    for (const dx of [-reach, reach]) for (const dy of [-reach, reach])
      names.add(`${Math.floor((pixel.x + dx) / slide.bin)}_${Math.floor((pixel.y + dy) / slide.bin)}`);
    let best = null;
    for (const name of names) {
      if (!known.has(name)) continue;
      await load(name);
      const square = squares[name];
      for (let i = 0; square && i < square.n; i += 1) {
        const distance = Math.hypot(square.x(i) - pixel.x, square.y(i) - pixel.y);
        if (distance <= reach && (!best || distance < best.distance)) best = { distance, square, i };
      }
    }
    return best;
  }

  const picked = document.getElementById("picked");
  async function pick(point) {
    const pixel = toPixel(point);
    const best = await nearest(pixel);
    const old = document.querySelector(".mark");
    if (old) viewer.removeOverlay(old);
    if (!best) { picked.textContent = `No cell within ${slide.reachUm} µm.`; return; }
    const x = best.square.x(best.i), y = best.square.y(best.i);
    const mark = document.createElement("div");
    mark.className = "mark";
    viewer.addOverlay({ element: mark, placement: "CENTER", checkResize: false,
      location: new OpenSeadragon.Point(x / slide.width, y / slide.width) });
    const list = document.createElement("dl");
    slide.layers.forEach((layer, at) => list.append(entry(layer, best.square.code(at, best.i))));
    const um = toUm({ x, y });
    list.append(line("Place", `${um.x.toFixed(0)}, ${um.y.toFixed(0)} µm`));
    picked.replaceChildren(list);
  }
  function entry(layer, code) {
    if (!code) return line(layer.title, "–");
    if (layer.limits) {
      const [low, high] = layer.limits;
      const value = low + ((code - 1) / 254) * (high - low);
      return line(layer.title, (code === 255 && high > 1 ? "over " : "") + value.toFixed(2));
    }
    return line(layer.title, layer.names[code - 1], layer.colors[code - 1]);
  }
  function line(title, text, color) {
    const row = document.createElement("div");
    const name = document.createElement("dt");
    const value = document.createElement("dd");
    name.textContent = title;
    if (color) {
      const swatch = document.createElement("i");
      swatch.className = "swatch";
      swatch.style.background = color;
      value.append(swatch);
    }
    value.append(text);
    row.append(name, value);
    return row;
  }

  window.stdistillViewer = viewer;
})();
