"""A form with one file, parsed as it comes; its bytes never touch a disk."""

from python_multipart import MultipartParser
from python_multipart.multipart import parse_options_header

MAX_PARTS = 16
"""More than these are no form of ours."""


class FormParser:
    """What has come of multipart/form-data so far."""

    def __init__(self, content_type: str) -> None:
        """Begin.

        Raises:
            ValueError: the type names no boundary.
        """
        _, options = parse_options_header(content_type)
        if not options.get(b"boundary"):
            raise ValueError("its Content-Type names no boundary.")
        self._parser = MultipartParser(
            options[b"boundary"],
            {
                "on_part_begin": self._on_part_begin,
                "on_header_field": self._on_header_field,
                "on_header_value": self._on_header_value,
                "on_header_end": self._on_header_end,
                "on_part_data": self._on_part_data,
                "on_end": self._on_end,
            },
        )
        self._parts, self._whole, self._in_file = 0, False, False
        self._name = self._content = b""
        self._file_name: bytes | None = None
        self._pieces: list[bytes] = []

    def write(self, chunk: bytes) -> None:
        """Take what came.

        Raises:
            ValueError: it is no form, or holds two files or too many parts.
        """
        self._parser.write(chunk)

    def get_file(self) -> tuple[str, bytes]:
        """The one file: its name, and its bytes.

        Raises:
            ValueError: there is none, or the form breaks off.
        """
        if not self._whole:
            raise ValueError("it breaks off.")
        if self._file_name is None:
            raise ValueError("it holds no file.")
        return self._file_name.decode(errors="replace"), b"".join(self._pieces)

    def _on_part_begin(self) -> None:
        self._parts += 1
        self._in_file = False
        if self._parts > MAX_PARTS:
            raise ValueError(f"it holds more than {MAX_PARTS} parts.")

    def _on_header_field(self, data: bytes, start: int, end: int) -> None:
        self._name += data[start:end]

    def _on_header_value(self, data: bytes, start: int, end: int) -> None:
        self._content += data[start:end]

    def _on_header_end(self) -> None:
        if self._name.lower() == b"content-disposition":
            self._set_file_name(parse_options_header(self._content)[1].get(b"filename"))
        self._name = self._content = b""

    def _set_file_name(self, name: bytes | None) -> None:
        if name is None:
            return
        if self._file_name is not None:
            raise ValueError("it holds two files.")
        self._file_name, self._in_file = name, True

    def _on_part_data(self, data: bytes, start: int, end: int) -> None:
        if self._in_file:
            self._pieces.append(data[start:end])

    def _on_end(self) -> None:
        self._whole = True
