// node pouchdb.mjs put|bulk|read|replicate PATH COUNT: figures as one JSON object.
import { join } from "node:path";
import PouchDB from "pouchdb";

const [work, path, size] = process.argv.slice(2);
const count = Number(size);
const open = (name) => new PouchDB(join(path, name), { auto_compaction: true, revs_limit: 10 });
const name = (number) => `message-${String(number).padStart(8, "0")}`;
const message = (number) => ({
  _id: name(number),
  role: number % 2 ? "assistant" : "user",
  text: "tea garden rain letter window bicycle harvest lamp ".repeat(1 + (number % 4)),
  timestamp: 1800000000000 + number * 1000,
});
const median = (samples) => samples.sort((a, b) => a - b)[samples.length >> 1];

async function timed(call) {
  const begin = performance.now();
  await call();
  return performance.now() - begin;
}

async function sampled(rounds, call) {
  const samples = [];
  for (let round = 0; round < rounds; round++) samples.push(await timed(() => call(round)));
  return median(samples);
}

async function fill(db) {
  for (let from = 0; from < count; from += 1000) {
    const length = Math.min(1000, count - from);
    await db.bulkDocs(Array.from({ length }, (_, at) => message(from + at)));
  }
}

const works = {
  async put() {
    const db = open("put");
    await db.info();
    return { us: 1000 * (await sampled(count, (round) => db.put(message(round)))) };
  },
  async bulk() {
    const db = open("bulk");
    await db.info();
    return { per_s: (1000 * count) / (await timed(() => fill(db))) };
  },
  async read() {
    const db = open("read");
    await fill(db);
    const last = { startkey: name(count), endkey: name(0), descending: true, include_docs: true, limit: 50 };
    return {
      get: 1000 * (await sampled(500, (round) => db.get(name((round * 7919) % count)))),
      last_50: 1000 * (await sampled(100, () => db.allDocs(last))),
    };
  },
  async replicate() {
    const [from, to] = [open("from"), open("to")];
    await fill(from);
    const options = { batch_size: 1000, batches_limit: 10 };
    const replicate = () => PouchDB.replicate(from, to, options);
    const first = await timed(replicate);
    const noop = await sampled(20, replicate);
    const ten = [];
    for (let round = 0; round < 20; round++) {
      for (let at = 0; at < 10; at++) {
        const found = await from.get(name((round * 10 + at) % count));
        await from.put({ ...found, text: `changed ${round}` });
      }
      ten.push(await timed(replicate));
    }
    return { first_per_s: (1000 * count) / first, noop_ms: noop, ten_ms: median(ten) };
  },
};

process.stdout.write(JSON.stringify(await works[work]()));
process.exit(0);
