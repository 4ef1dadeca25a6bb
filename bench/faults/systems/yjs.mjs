// node yjs.mjs DIRECTORY: a Y.Doc kept by y-leveldb. Its updates are events; what others broadcast is delivered.
import { LeveldbPersistence } from "y-leveldb";
import * as Y from "yjs";
import { answer, tell } from "./lines.mjs";

const NAME = "memories";
const encode = (bytes) => Buffer.from(bytes).toString("base64");
const decode = (text) => new Uint8Array(Buffer.from(text, "base64"));

answer(async () => {
  const kept = new LeveldbPersistence(process.argv[2]);
  const doc = await kept.getYDoc(NAME); // null after an error, which y-leveldb prints and swallows
  if (doc === null) throw new Error("y-leveldb gave no document: another process has the database");
  const records = doc.getMap(NAME);
  let stored = Promise.resolve();
  doc.on("update", (update, origin) => {
    stored = stored.then(() => kept.storeUpdate(NAME, update));
    if (origin !== "network") tell("update", { update: encode(update) });
  });
  return {
    ready: () => null,
    write: ({ name, value }) => (records.set(name, value), stored).then(() => null),
    async edit({ name, value }) {
      if (!records.has(name)) throw new Error("no such record");
      const found = records.get(name);
      records.set(name, value);
      await stored;
      return [found];
    },
    async forget({ name }) {
      if (!records.has(name)) throw new Error("no such record");
      records.delete(name);
      await stored;
    },
    read_all: () => Object.fromEntries([...records.entries()].map(([name, value]) => [name, [value]])),
    vector: () => encode(Y.encodeStateVector(doc)),
    missing: ({ vector }) => encode(Y.encodeStateAsUpdate(doc, decode(vector))),
    async deliver({ update }) {
      Y.applyUpdate(doc, decode(update), "network");
      await stored;
    },
    close: () => kept.destroy(),
  };
});
