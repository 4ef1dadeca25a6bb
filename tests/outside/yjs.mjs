// npm's yjs for the tests: one JSON request a line in, one JSON answer a line out.
//
//   {"do": "read", "updates": [base64 …]}            a document of these updates: its slots, text, clocks
//   {"do": "decode", "update": base64}               what an update says: structs and deletes by client
//   {"do": "write", "client": n, "updates": [base64 …], "acts": [["set", key, value] | ["remove", key] |
//    ["insert", index, text] | ["delete", index, length] …]}     the update that these acts make

import { createInterface } from 'node:readline'
import * as Y from 'yjs'

const bytes = (text) => new Uint8Array(Buffer.from(text, 'base64'))
const text = (raw) => Buffer.from(raw).toString('base64')

const plain = (value) => {
  if (value instanceof Uint8Array) return { $bytes: Buffer.from(value).toString('hex') }
  if (Array.isArray(value)) return value.map(plain)
  if (value !== null && typeof value === 'object') {
    return Object.fromEntries(Object.entries(value).map(([key, inner]) => [key, plain(inner)]))
  }
  return value
}

const load = (updates) => {
  const doc = new Y.Doc()
  doc.getMap('r')
  doc.getText('t')
  for (const update of updates) Y.applyUpdate(doc, bytes(update))
  return doc
}

const verbs = {
  read ({ updates }) {
    const doc = load(updates)
    return {
      slots: Object.fromEntries([...doc.getMap('r').entries()].map(([key, value]) => [key, plain(value)])),
      text: doc.getText('t').toString(),
      clocks: [...Y.decodeStateVector(Y.encodeStateVector(doc))],
      pending: doc.store.pendingStructs !== null || doc.store.pendingDs !== null,
      state: text(Y.encodeStateAsUpdate(doc))
    }
  },
  decode ({ update }) {
    const { structs, ds } = Y.decodeUpdate(bytes(update))
    return {
      structs: structs.map((struct) => [struct.id.client, struct.id.clock, struct.length]),
      deletes: [...ds.clients].flatMap(([client, ranges]) => ranges.map(({ clock, len }) => [client, clock, len]))
    }
  },
  write ({ client, updates, acts }) {
    const doc = load(updates)
    doc.clientID = client
    const made = []
    doc.on('update', (update) => made.push(update))
    const acting = {
      set: (key, value) => doc.getMap('r').set(key, value),
      remove: (key) => doc.getMap('r').delete(key),
      insert: (index, what) => doc.getText('t').insert(index, what),
      delete: (index, length) => doc.getText('t').delete(index, length)
    }
    doc.transact(() => acts.forEach(([name, ...rest]) => acting[name](...rest)))
    return { update: text(Y.mergeUpdates(made)), text: doc.getText('t').toString() }
  }
}

for await (const line of createInterface({ input: process.stdin })) {
  const request = JSON.parse(line)
  process.stdout.write(JSON.stringify(verbs[request.do](request)) + '\n')
}
