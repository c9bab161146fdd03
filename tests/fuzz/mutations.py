"""Valid files made invalid: strategies of damaged and hostile bytes, for every format that the harness reads."""

from __future__ import annotations

import copy
import io
import json
import pickle
import re
import struct
from collections.abc import Callable
from typing import Any

import numpy as np
from hypothesis import strategies as st

Draw = Callable[[st.SearchStrategy[Any]], Any]
Mutate = Callable[[Draw, bytes], bytes]

NAMES = (
    "", ".", "..", "../../escaped", "/etc/passwd", "a/b", "a\\b", "a\0b", "a\nb", "\x1b[31mred", "\u2028", "\ud800",
    "[/red][bold]", "<script>alert(1)</script>", "$(reboot)", "%s{0}", "é" * 300, "x" * 100_000, "NaN", "1", "-",
    "١٢",
    "|", "`", "'\"", "con", "~", "\ufeff", "👍", "\x7f", "--help", "=1+1",
)  # fmt: skip
NUMBERS = (
    "0", "-0", "-1", "1", "1.5", "2147483648", "-9223372036854775809", "18446744073709551617", "1" + "0" * 400,
    "9" * 5_000, "1e308", "-1e308", "1e999", "5e-324", "1e-400", "NaN", "Infinity", "-Infinity", "1e15", "0.1",
)  # fmt: skip
SHAPES = (
    "null", "true", "false", "[]", "{}", "[[]]", "[null]", '{"a": {}}', '"1"', '""', "[" * 10_000,
    "[" * 10_000 + "]" * 10_000,
    '{"a":' * 10_000 + "1" + "}" * 10_000, "[" * 300 + "]" * 300, "[" + "0," * 2_000 + "0]", "[1, 2]", "[0, 1, 2]",
)  # fmt: skip
json_tokens = st.sampled_from([*NUMBERS, *SHAPES, *(json.dumps(name) for name in NAMES)])
junk = st.binary(min_size=1, max_size=8) | st.sampled_from([b"\0" * 64, b"\xff\xfe", b"\xef\xbb\xbf", b"[" * 5_000])


def bytes_of(draw: Draw, valid: bytes) -> bytes:
    """Bits flipped, pieces cut, doubled, overwritten or inserted."""
    data = bytearray(valid)
    for _ in range(draw(st.integers(1, 4))):
        place = draw(st.integers(0, max(0, len(data) - 1)))
        end = place + draw(st.integers(1, 64))
        action = draw(st.sampled_from(["flip", "cut", "insert", "end", "double", "overwrite", "head", "empty"]))
        if action == "flip" and data:
            data[place] ^= 1 << draw(st.integers(0, 7))
        elif action == "cut":
            del data[place:end]
        elif action == "insert":
            data[place:place] = draw(junk)
        elif action == "end":
            del data[place:]
        elif action == "double":
            data[place:place] = data[place:end]
        elif action == "overwrite":
            data[place:end] = draw(junk)
        elif action == "head":
            data[: draw(st.integers(0, 16))] = draw(junk)
        elif action == "empty" and draw(st.booleans()):
            data.clear()
    return bytes(data)


def json_of(draw: Draw, valid: bytes) -> bytes:
    """A JSON file with values of other types and sizes, and keys changed, doubled or absent; or bytes changed."""
    if draw(st.integers(0, 4)) == 0:
        return bytes_of(draw, valid)
    value = json.loads(valid)
    raw: dict[str, str] = {}
    for _ in range(draw(st.integers(1, 3))):
        value = _json_once(draw, value, raw)
    return _with_raw(json.dumps(value), raw)


def _with_raw(text: str, raw: dict[str, str]) -> bytes:
    return re.sub(r'"@raw(\d+)@"', lambda match: raw[match[0]], text).encode()


def _raw(raw: dict[str, str], token: str) -> str:
    mark = f"@raw{len(raw)}@"
    raw[f'"{mark}"'] = token
    return mark


def _json_once(draw: Draw, value: Any, raw: dict[str, str]) -> Any:
    parent, key = _place(draw, value)
    if parent is None:
        return _raw(raw, draw(json_tokens))
    action = draw(st.sampled_from(["replace"] * 4 + ["delete", "rename", "double", "text", "wrap", "add"]))
    if action == "replace":
        parent[key] = _raw(raw, draw(json_tokens))
    elif action == "delete":
        del parent[key]
    elif action == "text":
        parent[key] = json.dumps(parent[key], default=str)
    elif action == "wrap":
        parent[key] = [parent[key]]
    elif isinstance(parent, list):
        parent.append(copy.deepcopy(parent[key]))
    elif action == "rename":
        parent[draw(st.sampled_from(NAMES))] = parent.pop(key)
    elif action == "add":
        parent[draw(st.sampled_from(NAMES))] = copy.deepcopy(parent[key])
    else:  # the same key twice
        parent[_raw(raw, json.dumps(key))] = copy.deepcopy(parent[key])
    return value


def _place(draw: Draw, value: Any) -> tuple[Any, Any]:
    """A random member of a JSON value: the list or object that it is in, and where; (None, None) for the whole."""
    parent = key = None
    while isinstance(value, dict | list) and value:
        if parent is not None and draw(st.integers(0, 3)) == 0:
            break
        parent, key = value, draw(st.sampled_from(list(value) if isinstance(value, dict) else range(len(value))))
        value = value[key]
    return (None, None) if draw(st.integers(0, 40)) == 0 else (parent, key)


toml_tokens = st.sampled_from([
    "0", "-1", "1", "1.5", "true", "inf", "nan", "-inf", "1" + "0" * 400, "9" * 5_000, "1e999", "9223372036854775808",
    "1979-05-27T07:32:00Z", "07:32:00", "[]", "{}", "[[]]", '[""]', '["a", "a"]', "[1, 2]", "[" * 10_000,
    "{a=" * 2_000,
    "[" * 90 + "]" * 90, '"""\nx\n"""', "''", '"\\u0000"', '"\\U00110000"', '"' + "x" * 100_000 + '"',
    '"0.1:1e-9:0.9"', '"0.5"',
    *(json.dumps(name, ensure_ascii=False) for name in NAMES if name.isprintable()),
])  # fmt: skip
toml_lines = st.sampled_from([
    "unknown = 1", "a" + ".a" * 20_000 + " = 1", "[a" + ".a" * 20_000 + "]", "[name]", "[[name]]", "= 1", "name =",
    'extends = "thumos14"', 'extends = ["a"]', 'extends = "../thumos14"', "\0", "\ud7ff = 1", '"" = 1', "[[rows]]",
    'id = "../../x"', 'detections = "../../../etc/passwd"', 'detections = "."', 'annotations = "/dev/zero"',
    'labels_file = "/dev/zero"', 'class_file = "/dev/zero"', 'class_file = "../../etc/passwd"', "resampled = true",
    'fps_file = "' + "x" * 5_000 + '"', 'class_file = "/etc/passwd"', 'file_prefixes = ["../"]',
    'test = { annotation = ["test"], folders = ["../../.."] }', 'train = { annotation = ["train"], folders = ["/"] }',
    "classes = " + json.dumps([str(number) for number in range(5_000)]),
])  # fmt: skip


def toml_of(draw: Draw, valid: bytes) -> bytes:
    """A TOML file with values of other types and sizes, lines added, doubled or absent; or bytes changed."""
    if draw(st.integers(0, 4)) == 0:
        return bytes_of(draw, valid)
    lines = valid.decode().splitlines()
    for _ in range(draw(st.integers(1, 3))):
        number = draw(st.integers(0, max(0, len(lines) - 1)))
        action = draw(st.sampled_from(["value", "value", "value", "line", "delete", "double", "swap"]))
        if action == "line" or not lines:
            lines.insert(number, draw(toml_lines))
        elif action == "value" and "=" in lines[number]:
            lines[number] = f"{lines[number].partition('=')[0]}= {draw(toml_tokens)}"
        elif action == "delete":
            del lines[number]
        elif action == "double":
            lines.insert(number, lines[number])
        else:
            lines.append(lines.pop(number))
    return "\n".join(lines).encode()


lines_of_text = st.sampled_from([
    "v 1 2", "v 2 1", "v nan 1", "v -inf inf", "v 1e999 2", "v 1e308 1e308", "v 1", "v", "a\0b 1 2", "v 1_0 2_0",
    "v ١ ٢",
    "../../x 1 2", "v 0x1 2", "x" * 100_000, "v " + "9" * 5_000 + " 1", "[/red] 1 2", "\x1b[31m 1 2", "é 1 2",
    "v 1 2 3",
])  # fmt: skip


def text_of(draw: Draw, valid: bytes) -> bytes:
    """A text file of one entry a line."""
    if draw(st.booleans()):
        return bytes_of(draw, valid)
    lines = valid.decode().splitlines()
    for _ in range(draw(st.integers(1, 3))):
        lines.insert(draw(st.integers(0, len(lines))), draw(lines_of_text))
    return "\n".join(lines).encode()


npy_fields = {
    "descr": ("'<f4'", "'<f2'", "'>f8'", "'|O'", "'<i8'", "'<U5'", "'|V8'", "'<f16'", "'<c8'", "'<M8[s]'", "''",
    "None",
              "[('a', '<f4')]", "[('a', 'O')]", "('<f4', (2,))", "'<f4000000000'", "'|S0'", "[" * 200, "'\\d'",
              "1", "'f4,f4'"),
    "fortran_order": ("True", "False", "1", "None", "'x'"),
    "shape": ("(4, 16)", "(0, 16)", "(16,)", "()", "(-1, 16)", "(True, 16)", "(10**15, 16)", "(1000000000000000, 16)",
              "(4, 1000000000000000)", "(2, 2, 16)", "4", "None", "(4.0, 16)", "('4', 16)", "(4L, 16L)", "(" * 300,
              "(99999999999999999999999999, 16)", "(9223372036854775807, 9223372036854775807)", "[4, 16]",
              "(4or 1, 16)"),
}  # fmt: skip


def npy_of(draw: Draw, valid: bytes) -> bytes:
    """An `.npy` file whose header claims something else, or whose bytes are changed."""
    if draw(st.integers(0, 2)) == 0:
        return bytes_of(draw, valid)
    body = valid[10 + struct.unpack("<H", valid[8:10])[0] :]
    fields = {name: draw(st.sampled_from(values)) for name, values in npy_fields.items()}
    keys = draw(st.sampled_from([list(fields), list(fields)[:2], [*fields, "extra"]]))
    text = (
        "{"
        + ", ".join(f"'{key}': {fields.get(key, '1')}" for key in keys)
        + "}"
        + draw(st.sampled_from(["\n", "", ";", " " * 70_000]))
    )
    version = draw(st.sampled_from([1, 1, 2, 3, 0, 255]))
    size = struct.pack("<H" if version == 1 else "<I", len(text) % 65_536 if version == 1 else len(text))
    if draw(st.integers(0, 5)) == 0:
        size = draw(st.binary(min_size=len(size), max_size=len(size)))
    body = draw(st.sampled_from([body, body[:-7], b"", np.full(64, np.nan, np.float32).tobytes(), b"\xff" * 256]))
    return b"\x93NUMPY" + bytes([version, 0]) + size + text.encode() + body


class Call:
    """What an attacker's pickle does: call something by name with arguments, then set its state."""

    def __init__(self, function: Any, arguments: tuple[Any, ...], state: Any = None) -> None:
        self.parts = (function, arguments, state)

    def __reduce__(self) -> tuple[Any, ...]:
        return self.parts if self.parts[2] is not None else self.parts[:2]


_RECONSTRUCT = np.empty(0).__reduce__()[0]
attacks = st.sampled_from([
    Call(np.ndarray, ((1,), "O", b"A" * 8)),
    Call(np.ndarray, ((10**12,), "f8")),
    Call(np.dtype, ("O,O",)),
    Call(np.dtype, ("V8", False, True), (3, "|", None, ("x",), {"x": (np.dtype("O"), 0)}, 8, 1, 0)),
    Call(np.dtype, ("f8", False, True), (3, "!", None, None, None, -1, -1, 0)),
    Call(_RECONSTRUCT, (np.ndarray, (0,), b"b"), (1, (10**6,), np.dtype("O"), False, [1])),
    Call(_RECONSTRUCT, (np.ndarray, (0,), b"b"), (1, (10**6,), np.dtype("f8"), False, b"1")),
    Call(_RECONSTRUCT, (np.ndarray, (10**15,), b"b")),
    Call(_RECONSTRUCT, (np.ndarray, (0,), b"b"), (1, (-1,), np.dtype("f8"), False, b"")),
    Call(_RECONSTRUCT, (np.ndarray, (0,), b"b"), {"shape": (5,)}),
    Call(exec, ("raise SystemExit(99)",)),
    Call(getattr, ("np", "fromfile")),
])  # fmt: skip
members = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.sampled_from(NAMES) | st.binary(max_size=4) | attacks,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.tuples(inner, inner)
        | st.dictionaries(st.text(max_size=2), inner, max_size=2)
    ),
    max_leaves=5,
)  # fmt: skip
opcodes = st.sampled_from([
    b"r\xff\xff\xff\x7f", b"j\xff\xff\xff\x7f", b"B\xff\xff\xff\x7f", b"\x8e" + b"\xff" * 7 + b"\x7f",
    b"\x95" + b"\xff" * 8,
    b"\x96" + b"\xff" * 6 + b"\x00\x00", b"2" * 100, b"(" * 5_000, b"]" * 5_000, b"]2a" * 50, b"}" * 9, b"\x81",
    b"R", b"b",
    b"cos\nsystem\n", b"cnumpy\nndarray\n", b"I99999999999999999999\n", b"P1\n", b"i_codecs\nencode\n",
    b"\x8b\xff\xff\xff\x7f",
    b"\x82\x01", b"L" + b"9" * 5_000 + b"L\n", b"N", b"u", b"e", b"t", b"0" * 50, b".",
])  # fmt: skip


def pickled_of(draw: Draw, valid: bytes) -> bytes:
    """An `.npy` file of pickled objects: other objects, attacks, damaged opcodes; or as any `.npy` file."""
    size = 10 + struct.unpack("<H", valid[8:10])[0]
    action = draw(st.sampled_from(["objects", "bytes", "opcodes", "header"]))
    if action == "header":
        return npy_of(draw, valid)
    if action == "bytes":
        return valid[:size] + bytes_of(draw, valid[size:])
    if action == "opcodes":
        data = bytearray(valid)
        for _ in range(draw(st.integers(1, 3))):
            place = draw(st.integers(size, len(data)))
            data[place:place] = draw(opcodes)
        return bytes(data)
    array = np.load(io.BytesIO(valid), allow_pickle=True)
    replaced = np.empty(array.shape, dtype=object)
    replaced[...] = array
    replaced[draw(st.integers(0, len(array) - 1))] = draw(members)
    return valid[:size] + pickle.dumps(replaced, protocol=draw(st.sampled_from([0, 1, 2, 3, 4])))


def safetensors_of(draw: Draw, valid: bytes) -> bytes:
    """A safetensors file whose header says something else, or whose bytes are changed."""
    if draw(st.integers(0, 2)) == 0:
        return bytes_of(draw, valid)
    size = int.from_bytes(valid[:8], "little")
    header = json_of(draw, valid[8 : 8 + size])
    stated = draw(st.sampled_from([len(header)] * 6 + [0, 2**63, 2**64 - 1, len(header) - 1, 10**9]))
    return stated.to_bytes(8, "little") + header + valid[8 + size :]


def resized_tensors_of(draw: Draw, valid: bytes) -> bytes:
    """A safetensors file that is whole and holds other tensors: other shapes, types, names and values."""
    import safetensors.numpy

    size = int.from_bytes(valid[:8], "little")
    about = json.loads(valid[8 : 8 + size]).get("__metadata__", {})
    tensors = safetensors.numpy.load(valid)
    name = draw(st.sampled_from(sorted(tensors)))
    action = draw(st.sampled_from(["type", "shape", "values", "drop", "add", "about"]))
    if action == "type":
        tensors[name] = tensors[name].astype(draw(st.sampled_from(["f2", "f4", "f8", "i1", "i8", "u1", "bool"])))
    elif action == "shape":
        tensors[name] = np.zeros(draw(st.sampled_from([(), (0,), (1,), (3, 1), (2, 2, 2)])), tensors[name].dtype)
    elif action == "values":
        kind = tensors[name].dtype
        extreme = [np.nan, np.inf, 3e4] if kind.kind == "f" else [True] if kind.kind == "b" else [-1, -2, 100]
        tensors[name] = np.full(tensors[name].shape, draw(st.sampled_from(extreme))).astype(kind)
    elif action == "drop":
        del tensors[name]
    elif action == "add":
        tensors[draw(st.sampled_from(["", "x", "method.", "method.x", "optimizer.0.step"]))] = tensors[name]
    elif about:
        key = draw(st.sampled_from(sorted(about)))
        about[key] = json_of(draw, about[key].encode()).decode(errors="replace") if about[key][:1] in "{[" else "x"
    return bytes(safetensors.numpy.save({key: np.ascontiguousarray(value) for key, value in tensors.items()}, about))
