// Slow work on values, in a worker, so that typing never waits for it.
import { faults } from "./check.js"
import { diff } from "./diff.js"
import { pretty, sorted } from "./json.js"

const jobs = { diff, faults, pretty, sorted }

onmessage = ({ data: { id, job, values } }) => postMessage({ id, result: jobs[job](...values) })
