"""Where to compute, and in how large tiles."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from .ChoiceWidget import ChoiceWidget

AUTOMATIC_DEVICE = "auto"
AUTOMATIC_TILE_SIZE = 0
_TILE_SIZES = (64, 96, 128, 160, 192, 256)


class DeviceWidget:
    """Two combo boxes, ui.deviceComboBox and ui.tileSizeComboBox: the devices that a worker found, and sizes of tiles.

    onDeviceChosen: called with `auto`, `cpu`, `cuda:0`, …; onTileSizeChosen: with an edge in voxels, 0 for automatic.
    """

    def __init__(
        self,
        ui: Any,
        onDeviceChosen: Callable[[str], None],
        onTileSizeChosen: Callable[[int], None],
    ) -> None:
        self._device = ChoiceWidget(ui.deviceComboBox, onDeviceChosen)
        self._tileSize = ChoiceWidget(ui.tileSizeComboBox, onTileSizeChosen)
        self.devices: tuple[Mapping[str, Any], ...] | None = None
        self._showDevices(())
        self._showTileSizes(_TILE_SIZES)

    def setDevices(self, devices: Iterable[Mapping[str, Any]]) -> None:
        """Shows the devices of a worker's answer to `describe`."""
        self.devices = tuple(devices)
        self._showDevices(self.devices)

    def chooseDevice(self, device: str) -> None:
        """Shows a device as chosen, also one that this computer was not found to have."""
        if device not in self._device.values:
            self._device.setItems([*self._items, (device, device)])
        self._device.choose(device)

    def chooseTileSize(self, edge: int) -> None:
        """Shows an edge in voxels as chosen."""
        if edge not in self._tileSize.values:
            self._showTileSizes(sorted({*_TILE_SIZES, edge}))
        self._tileSize.choose(edge)

    def cleanup(self) -> None:
        """Takes the connections back."""
        self._device.cleanup()
        self._tileSize.cleanup()

    def _showDevices(self, devices: Iterable[Mapping[str, Any]]) -> None:
        chosen = self._device.value
        self._items = [(AUTOMATIC_DEVICE, "Automatic"), *((entry["device"], deviceText(entry)) for entry in devices)]
        if all(value != "cpu" for value, _text in self._items):
            self._items.append(("cpu", "CPU"))
        self._device.setItems(self._items)
        if chosen is not None:
            self.chooseDevice(chosen)

    def _showTileSizes(self, edges: Iterable[int]) -> None:
        items = [(AUTOMATIC_TILE_SIZE, "Automatic")]
        items += [(edge, f"{edge} × {edge} × {edge}") for edge in edges]
        self._tileSize.setItems(items)


def deviceText(entry: Mapping[str, Any]) -> str:
    """A device's name and memory in words: `NVIDIA RTX 4090 (21.3 of 24.0 GB free)`."""
    total, free = entry.get("total_bytes"), entry.get("free_bytes")
    if not total or free is None:
        return entry["name"]
    return f"{entry['name']} ({free / 1e9:.1f} of {total / 1e9:.1f} GB free)"
