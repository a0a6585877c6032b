"""``python -m stdistill``: the command ``stdistill``, also where its folder is not on the ``PATH``."""

from __future__ import annotations

from stdistill._cli import main

if __name__ == "__main__":
    main()
