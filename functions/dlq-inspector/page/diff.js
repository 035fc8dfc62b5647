// The difference between two texts, quick at any size: equal ends are cut off, then segments are compared, then the words within
// what changed. Texts are compared as they are, so every digit counts.

// myers returns the shortest list of ["=" | "-" | "+", from, to] runs over two arrays (E. Myers, "An O(ND) Difference Algorithm",
// 1986), or null if they differ in more than most places: its time and memory grow with the square of that.
function myers(a, b, most) {
  let reach = new Int32Array(2 * most + 3)
  const trail = []
  for (let d = 0; d <= most; d++) {
    trail.push(reach.slice(most + 1 - d - 1, most + 1 + d + 2)) // of the diagonals -d-1 to d+1
    for (let k = -d; k <= d; k += 2) {
      const i = most + 1 + k
      let x = k === -d || (k !== d && reach[i - 1] < reach[i + 1]) ? reach[i + 1] : reach[i - 1] + 1
      while (x < a.length && x - k < b.length && a[x] === b[x - k]) x++
      reach[i] = x
      if (x >= a.length && x - k >= b.length) return runs(a.length, b.length, trail)
    }
  }
  return null
}

// runs walks back from the end and collects the edits, last first.
function runs(x, y, trail) {
  const out = []
  for (let d = trail.length - 1; d >= 0; d--) {
    const reach = (k) => trail[d][k + d + 1]
    const k = x - y
    const down = k === -d || (k !== d && reach(k - 1) < reach(k + 1))
    const before = down ? k + 1 : k - 1
    const from = d === 0 ? 0 : down ? reach(before) : reach(before) + 1
    if (x > from) out.push(["=", x - from])
    if (d === 0) break
    x = reach(before)
    y = x - before
    out.push([down ? "+" : "-", 1])
  }
  return out.reverse()
}

// compare merges the runs over two arrays of strings to [sign, text] pieces, deletions before insertions.
function compare(a, b, most) {
  const found = myers(a, b, most)
  if (!found) return [["-", a.join("")], ["+", b.join("")]]
  const out = []
  let i = 0, j = 0, gone = "", come = ""
  const flush = () => { if (gone) out.push(["-", gone]); if (come) out.push(["+", come]); gone = come = "" }
  for (const [sign, n] of found) {
    if (sign === "=") { flush(); out.push(["=", a.slice(i, i + n).join("")]); i += n; j += n }
    else if (sign === "-") gone += a.slice(i, i += n).join("")
    else come += b.slice(j, j += n).join("")
  }
  flush()
  return out
}

const segments = (text) => text.match(/[^\n,]{0,400}[\n,]?/g).filter(Boolean)
const words = (text) => text.match(/[\p{L}\p{N}_.+-]+|\s|[^\p{L}\p{N}_.+\s-]/gu) ?? []
const refined = 20000 // longer changes are shown whole

// ends returns the lengths of the common start and end, not within a word, a surrogate pair or a line end.
function ends(a, b) {
  const least = Math.min(a.length, b.length)
  let start = 0, end = 0
  while (start < least && a.charCodeAt(start) === b.charCodeAt(start)) start++
  while (end < least - start && a.charCodeAt(a.length - 1 - end) === b.charCodeAt(b.length - 1 - end)) end++
  const inWord = (c) => /[\p{L}\p{N}_.+\-\uD800-\uDFFF\r\n]/u.test(c ?? "")
  for (let n = 0; n < 400 && start > 0 && inWord(a[start - 1]); n++) start--
  for (let n = 0; n < 400 && end > 0 && inWord(a[a.length - end]); n++) end--
  return [start, end]
}

// diff returns [sign, text] pieces with signs "=", "-", "+".
export function diff(a, b) {
  if (a === b) return [["=", a]]
  const [start, end] = ends(a, b)
  const out = start ? [["=", a.slice(0, start)]] : []
  const coarse = compare(segments(a.slice(start, a.length - end)), segments(b.slice(start, b.length - end)), 1000)
  for (let i = 0; i < coarse.length; i++) {
    const [sign, gone] = coarse[i], come = coarse[i + 1]?.[1] ?? ""
    if (sign === "-" && coarse[i + 1]?.[0] === "+" && gone.length + come.length <= refined) { out.push(...compare(words(gone), words(come), 600)); i++ }
    else out.push(coarse[i])
  }
  if (end) out.push(["=", a.slice(a.length - end)])
  return out
}
