// A stranger's verifier of a host log in JavaScript: Web Crypto alone, as a browser has it.
//
//   node verify.mjs log DIRECTORY KEYS     checkpoint, every tile, every entry
//   node verify.mjs proof FILE KEYS        a tlog-proof
//
// KEYS has a verifier key a line. Keys of types 1 and 4 (Ed25519) must all have signed. Web Crypto
// has no ML-DSA-44 (type 6): such a key is passed over, and the output says so.
import { readFile } from "node:fs/promises";
import { join } from "node:path";

const { subtle } = globalThis.crypto ?? (await import("node:crypto")).webcrypto;
const utf8 = new TextEncoder();
const ED25519 = 1, COSIGNATURE = 4, MLDSA = 6;

const concat = (...parts) => {
  const whole = new Uint8Array(parts.reduce((size, part) => size + part.length, 0));
  let at = 0;
  for (const part of parts) { whole.set(part, at); at += part.length; }
  return whole;
};
const hash = async (...parts) => new Uint8Array(await subtle.digest("SHA-256", concat(...parts)));
const hashLeaf = (data) => hash([0], data);
const hashNode = (left, right) => hash([1], left, right);
const isEqual = (a, b) => a.length === b.length && a.every((value, at) => value === b[at]);
const toHex = (data) => Array.from(data, (value) => value.toString(16).padStart(2, "0")).join("");

function fromBase64(text) {
  const data = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  if (btoa(String.fromCharCode(...data)) !== text) throw new Error("base64 is not canonical");
  return data;
}

async function parseKey(text) {
  const [name, id, ...rest] = text.split("+");
  const material = fromBase64(rest.join("+"));
  const digest = await hash(utf8.encode(`${name}\n`), material);
  if (toHex(digest.slice(0, 4)) !== id) throw new Error("key: name and id do not belong to it");
  return { name, id, kind: material[0], bytes: material.slice(1) };
}

async function isSigned(key, text, signature) {
  let message = utf8.encode(text);
  if (key.kind === COSIGNATURE) {
    const seconds = new DataView(signature.buffer).getBigUint64(0);
    message = utf8.encode(`cosignature/v1\ntime ${seconds}\n${text}`);
    signature = signature.slice(8);
  }
  const known = await subtle.importKey("raw", key.bytes, "Ed25519", false, ["verify"]);
  return subtle.verify("Ed25519", known, signature, message);
}

// The state of a checkpoint that all the keys have signed (of those that can be checked here).
async function open(note, keysFile) {
  const lines = (await readFile(keysFile, "utf8")).trim().split("\n");
  const keys = await Promise.all(lines.map(parseKey));
  const end = note.lastIndexOf("\n\n");
  const text = note.slice(0, end + 1);
  const signatures = note.slice(end + 2).trimEnd().split("\n").map((line) => {
    const [dash, name, encoded] = line.split(" ");
    if (dash !== "\u2014") throw new Error("note: not a signature line");
    const data = fromBase64(encoded);
    return { name, id: toHex(data.slice(0, 4)), signature: data.slice(4) };
  });
  for (const key of keys) {
    const line = signatures.find((one) => one.name === key.name && one.id === key.id);
    if (!line) throw new Error(`checkpoint: no signature of type ${key.kind}`);
    if (key.kind !== MLDSA && !(await isSigned(key, text, line.signature))) {
      throw new Error(`checkpoint: the signature of type ${key.kind} does not hold`);
    }
  }
  if (!keys.some((key) => key.kind === ED25519)) throw new Error("no key of type 1 was named");
  const [origin, size, root, ...others] = text.trimEnd().split("\n");
  if (others.length || !/^(0|[1-9][0-9]*)$/.test(size)) throw new Error("checkpoint: its text");
  return { origin, size: Number(size), root: fromBase64(root) };
}

// RFC 6962: pair hashes level by level; an odd last one goes up as it is.
async function computeRoot(hashes) {
  let level = hashes;
  while (level.length > 1) {
    const above = [];
    for (let at = 0; at + 1 < level.length; at += 2) {
      above.push(hashNode(level[at], level[at + 1]));
    }
    if (level.length % 2) above.push(level[level.length - 1]);
    level = await Promise.all(above);
  }
  return level[0];
}

function encodePath(level, number, width) {
  const groups = [String(number % 1000).padStart(3, "0")];
  for (let rest = Math.floor(number / 1000); rest; rest = Math.floor(rest / 1000)) {
    groups.unshift(`x${String(rest % 1000).padStart(3, "0")}`);
  }
  return `tile/${level}/${groups.join("/")}${width < 256 ? `.p/${width}` : ""}`;
}

async function verifyLog(top, keysFile) {
  const state = await open(await readFile(join(top, "checkpoint"), "utf8"), keysFile);
  const leaves = [];
  for (let number = 0; number * 256 < state.size; number++) {
    const width = Math.min(256, state.size - number * 256);
    const data = new Uint8Array(await readFile(join(top, encodePath("entries", number, width))));
    const view = new DataView(data.buffer, data.byteOffset, data.length);
    let at = 0;
    for (let count = 0; count < width; count++) {
      const size = view.getUint16(at);
      if (at + 2 + size > data.length) throw new Error(`bundle ${number} is torn`);
      leaves.push(data.slice(at + 2, at + 2 + size));
      at += 2 + size;
    }
    if (at !== data.length) throw new Error(`bundle ${number} is too long`);
  }
  let hashes = await Promise.all(leaves.map(hashLeaf));
  if (!isEqual(await computeRoot(hashes), state.root)) throw new Error("entries: another root");
  for (let level = 0; hashes.length; level++) {
    const above = [];
    for (let number = 0; number * 256 < hashes.length; number++) {
      const wanted = hashes.slice(number * 256, number * 256 + 256);
      const data = await readFile(join(top, encodePath(level, number, wanted.length)));
      if (!isEqual(new Uint8Array(data), concat(...wanted))) {
        throw new Error(`tile ${number} of level ${level} is not that of the entries`);
      }
      if (wanted.length === 256) above.push(await computeRoot(wanted));
    }
    hashes = above;
  }
  return `log ${state.size} ${toHex(state.root)}`;
}

async function verifyProof(file, keysFile) {
  const data = await readFile(file, "utf8");
  const at = data.indexOf("\n\n");
  const [magic, extra, place, ...path] = data.slice(0, at).split("\n");
  if (magic !== "c2sp.org/tlog-proof@v1" || !extra.startsWith("extra ")) throw new Error("magic");
  const state = await open(data.slice(at + 2), keysFile);
  const index = Number(place.replace("index ", ""));
  if (!(index < state.size)) throw new Error("proof: beyond the log");
  let value = await hashLeaf(fromBase64(extra.slice(6)));
  let number = index, last = state.size - 1;
  for (const line of path) {
    const sibling = fromBase64(line);
    if (last === 0) throw new Error("proof: too long");
    if (number % 2 || number === last) {
      value = await hashNode(sibling, value);
      while (number % 2 === 0 && number) { number /= 2; last = Math.floor(last / 2); }
    } else {
      value = await hashNode(value, sibling);
    }
    number = Math.floor(number / 2);
    last = Math.floor(last / 2);
  }
  if (last !== 0 || !isEqual(value, state.root)) throw new Error("proof: another root");
  return `leaf ${index} of ${state.size}`;
}

const [verb, target, keysFile] = process.argv.slice(2);
try {
  const said = await (verb === "log" ? verifyLog : verifyProof)(target, keysFile);
  console.log(`${said} (ML-DSA not checked: Web Crypto has none)`);
} catch (error) {
  console.error(String(error.message ?? error));
  process.exitCode = 1;
}
