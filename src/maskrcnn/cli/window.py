"""A window on the screen, through tkinter, for `maskrcnn predict --show`."""

from __future__ import annotations

from typing import Any

import numpy as np

from maskrcnn.errors import ConfigError


class Window:
    """Shows one picture after the other; q, Escape or closing it ends the run.

    Args:
        title: of the window.
        toolkit: stands in for tkinter in tests.

    Raises:
        ConfigError: there is no screen, or no tkinter.
    """

    def __init__(self, title: str, toolkit: Any = None) -> None:
        try:
            if toolkit is None:
                import tkinter as toolkit
            self._root = toolkit.Tk()
        except Exception as error:  # ImportError, TclError: no tkinter, no screen
            raise ConfigError(f"--show needs a screen ({error}); leave it out, the results are in --out") from error
        self._root.title(title)
        self._label = toolkit.Label(self._root)
        self._label.pack()
        self._open = True
        self._root.protocol("WM_DELETE_WINDOW", self._close)
        for key in ("q", "<Escape>"):
            self._root.bind(key, lambda _: self._close())

    def show(self, pixels: np.ndarray) -> bool:
        """(H, W, 3) uint8 RGB, made smaller where the screen is. Returns whether the window is still open."""
        if self._open:
            height, width = self._root.winfo_screenheight(), self._root.winfo_screenwidth()
            self._picture = self._photo(fitted(pixels, int(0.9 * height), int(0.9 * width)))
            self._label.configure(image=self._picture)
            self._root.update()
        return self._open

    def _photo(self, pixels: np.ndarray) -> Any:
        from PIL import Image, ImageTk

        return ImageTk.PhotoImage(Image.fromarray(pixels), master=self._root)

    def _close(self) -> None:
        self._open = False
        self._root.destroy()


def fitted(pixels: np.ndarray, height: int, width: int) -> np.ndarray:
    """(H, W, 3) uint8 -> the same, or smaller so that it fits."""
    from PIL import Image

    factor = min(1.0, height / pixels.shape[0], width / pixels.shape[1])
    if factor == 1.0:
        return pixels
    size = (max(1, int(pixels.shape[1] * factor)), max(1, int(pixels.shape[0] * factor)))
    return np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.BILINEAR))
