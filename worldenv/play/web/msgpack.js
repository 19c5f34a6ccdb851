// MessagePack, as much of it as messages hold: nil, booleans, numbers, strings, binary, arrays, maps with string keys.
// https://github.com/msgpack/msgpack/blob/master/spec.md

const text = new TextEncoder();
const utf8 = new TextDecoder("utf-8", { fatal: true });

/** Return the bytes of a value; a Uint8Array becomes binary, an undefined entry of an object is left out. */
export function encode(value) {
  const parts = [];
  write(value, parts);
  const whole = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
}

function write(value, out) {
  if (value === null || value === undefined) out.push(Uint8Array.of(0xc0));
  else if (value === true || value === false) out.push(Uint8Array.of(value ? 0xc3 : 0xc2));
  else if (typeof value === "number") out.push(Number.isSafeInteger(value) ? integer(value) : float(value));
  else if (typeof value === "string") {
    const bytes = text.encode(value);
    out.push(head(bytes.length, [[32, 0xa0], [1 << 8, 0xd9, 1], [1 << 16, 0xda, 2], [2 ** 32, 0xdb, 4]]), bytes);
  } else if (value instanceof Uint8Array) {
    out.push(head(value.length, [[1 << 8, 0xc4, 1], [1 << 16, 0xc5, 2], [2 ** 32, 0xc6, 4]]), value);
  } else if (Array.isArray(value)) {
    out.push(head(value.length, [[16, 0x90], [1 << 16, 0xdc, 2], [2 ** 32, 0xdd, 4]]));
    for (const item of value) write(item, out);
  } else {
    const entries = Object.entries(value).filter(([, item]) => item !== undefined);
    out.push(head(entries.length, [[16, 0x80], [1 << 16, 0xde, 2], [2 ** 32, 0xdf, 4]]));
    for (const [name, item] of entries) {
      write(name, out);
      write(item, out);
    }
  }
}

/** Return the head of something so long: the first kind [limit, code, bytes of the length] that it fits. */
function head(length, kinds) {
  const [, code, size] = kinds.find(([limit]) => length < limit);
  if (!size) return Uint8Array.of(code | length);
  const bytes = new Uint8Array(1 + size);
  bytes[0] = code;
  for (let i = 0; i < size; i++) bytes[size - i] = Math.floor(length / 256 ** i) % 256;
  return bytes;
}

function integer(value) {
  if (value >= 0 && value < 128) return Uint8Array.of(value);
  if (value < 0 && value >= -32) return Uint8Array.of(value + 256);
  const bytes = new Uint8Array(9);
  bytes[0] = 0xd3;
  new DataView(bytes.buffer).setBigInt64(1, BigInt(value));
  return bytes;
}

function float(value) {
  const bytes = new Uint8Array(9);
  bytes[0] = 0xcb;
  new DataView(bytes.buffer).setFloat64(1, value);
  return bytes;
}

/** Return the value that an ArrayBuffer or Uint8Array holds; throw a RangeError or TypeError if it holds none. */
export function decode(buffer) {
  const bytes = buffer instanceof Uint8Array ? buffer : new Uint8Array(buffer);
  const reader = new Reader(bytes);
  const value = reader.value();
  if (reader.at !== bytes.length) throw new RangeError(`${bytes.length - reader.at} bytes after the message`);
  return value;
}

class Reader {
  constructor(bytes) {
    this.bytes = bytes;
    this.view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    this.at = 0;
  }

  number(kind, size) {
    const value = this.view[`get${kind}`](this.at);
    this.at += size;
    return Number(value);
  }

  take(length) {
    if (this.at + length > this.bytes.length) throw new RangeError("the message ends too early");
    this.at += length;
    return this.bytes.subarray(this.at - length, this.at);
  }

  string(length) {
    return utf8.decode(this.take(length));
  }

  array(length) {
    const items = [];
    for (let i = 0; i < length; i++) items.push(this.value());
    return items;
  }

  map(length) {
    const entries = {};
    for (let i = 0; i < length; i++) {
      const name = this.value();
      entries[name] = this.value();
    }
    return entries;
  }

  value() {
    const code = this.number("Uint8", 1);
    if (code < 0x80) return code;
    if (code < 0x90) return this.map(code & 15);
    if (code < 0xa0) return this.array(code & 15);
    if (code < 0xc0) return this.string(code & 31);
    if (code >= 0xe0) return code - 256;
    const kind = KINDS[code];
    if (!kind) throw new TypeError(`no value begins with byte 0x${code.toString(16)}`);
    return kind(this);
  }
}

const KINDS = {
  0xc0: () => null,
  0xc2: () => false,
  0xc3: () => true,
  0xc4: (r) => r.take(r.number("Uint8", 1)),
  0xc5: (r) => r.take(r.number("Uint16", 2)),
  0xc6: (r) => r.take(r.number("Uint32", 4)),
  0xca: (r) => r.number("Float32", 4),
  0xcb: (r) => r.number("Float64", 8),
  0xcc: (r) => r.number("Uint8", 1),
  0xcd: (r) => r.number("Uint16", 2),
  0xce: (r) => r.number("Uint32", 4),
  0xcf: (r) => r.number("BigUint64", 8),
  0xd0: (r) => r.number("Int8", 1),
  0xd1: (r) => r.number("Int16", 2),
  0xd2: (r) => r.number("Int32", 4),
  0xd3: (r) => r.number("BigInt64", 8),
  0xd9: (r) => r.string(r.number("Uint8", 1)),
  0xda: (r) => r.string(r.number("Uint16", 2)),
  0xdb: (r) => r.string(r.number("Uint32", 4)),
  0xdc: (r) => r.array(r.number("Uint16", 2)),
  0xdd: (r) => r.array(r.number("Uint32", 4)),
  0xde: (r) => r.map(r.number("Uint16", 2)),
  0xdf: (r) => r.map(r.number("Uint32", 4)),
};
