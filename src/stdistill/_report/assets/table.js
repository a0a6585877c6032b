// A table that can be sorted by its columns and filtered by its text.
"use strict";
(function () {
  const table = document.getElementById("cohort");
  const body = table.tBodies[0];
  const rows = Array.from(body.rows);
  const filter = document.getElementById("filter");
  const count = document.getElementById("count");
  document.querySelector(".filter").hidden = false;

  const order = new Intl.Collator(undefined, { numeric: true });
  function compare(a, b) {
    if ((a === "") !== (b === "")) return a === "" ? 1 : -1; // what is missing comes last
    const [x, y] = [Number(a), Number(b)];
    return Number.isNaN(x) || Number.isNaN(y) ? order.compare(a, b) : x - y;
  }
  for (const head of table.querySelectorAll("[data-sort]")) {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = head.textContent;
    head.replaceChildren(button);
    button.addEventListener("click", () => {
      const down = head.getAttribute("aria-sort") === "ascending";
      for (const other of table.querySelectorAll("[aria-sort]")) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      const value = (row) => row.cells[head.cellIndex].dataset.value;
      const sorted = [...rows].sort((a, b) => {
        const [x, y] = [value(a), value(b)];
        return x === "" || y === "" || !down ? compare(x, y) : compare(y, x);
      });
      body.append(...sorted);
    });
  }
  function show() {
    const words = filter.value.toLowerCase().split(/\s+/).filter(Boolean);
    let n = 0;
    for (const row of rows) {
      const text = row.textContent.toLowerCase();
      row.hidden = !words.every((word) => text.includes(word));
      n += !row.hidden;
    }
    count.textContent = `${n} of ${rows.length} slides`;
  }
  filter.addEventListener("input", show);
  show();
})();
