// node pouchdb.mjs DIRECTORY [URL …]: a database, served over HTTP, and kept in sync with those at the URLs.
import { createServer } from "node:http";
import { join } from "node:path";
import expressPouchDB from "express-pouchdb";
import PouchDB from "pouchdb";
import { answer } from "./lines.mjs";

const [directory, ...urls] = process.argv.slice(2);
const REDIAL_MS = 500; // PouchDB's own back-off grows to minutes; an app that hears of a network dials at once

answer(async () => {
  const Local = PouchDB.defaults({ prefix: join(directory, "/") });
  const db = new Local("memories");
  await db.info(); // fails when another process has the database
  const options = { mode: "minimumForPouchDB", inMemoryConfig: true, logPath: join(directory, "log.txt") };
  const server = createServer(expressPouchDB(Local, options));
  await new Promise((done) => server.listen(0, "127.0.0.1", done));
  const syncs = urls.map((url) =>
    db.sync(url, { live: true, retry: true, back_off_function: () => REDIAL_MS }).on("error", (e) => console.error(e)));
  return {
    ready: () => server.address().port,
    write: ({ name, value }) => db.put({ _id: name, value }).then(() => null),
    async edit({ name, value }) {
      const found = await db.get(name);
      await db.put({ ...found, value });
      return [found.value];
    },
    async forget({ name }) {
      await db.remove(await db.get(name));
    },
    async read_all() {
      const { rows } = await db.allDocs({ include_docs: true, conflicts: true });
      const found = {};
      for (const { id, doc } of rows.filter((row) => !row.id.startsWith("_design/"))) {
        const others = await Promise.all((doc._conflicts ?? []).map((rev) => db.get(id, { rev })));
        found[id] = [doc.value, ...others.map((other) => other.value)];
      }
      return found;
    },
    async close() {
      syncs.forEach((sync) => sync.cancel());
      await db.close();
    },
  };
});
