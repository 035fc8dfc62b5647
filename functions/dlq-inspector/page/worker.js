// Asks the worker in work.js.

const worker = new Worker("/dlq/page/work.js", { type: "module" })
const waiting = new Map()
let last = 0

worker.onmessage = ({ data: { id, result } }) => {
  waiting.get(id)?.resolve(result)
  waiting.delete(id)
}
worker.onerror = (e) => {
  for (const { reject } of waiting.values()) reject(new Error(e.message))
  waiting.clear()
}

export const ask = (job, ...values) => new Promise((resolve, reject) => {
  waiting.set(++last, { resolve, reject })
  worker.postMessage({ id: last, job, values })
})
