// Writes npm_ranges.json: what npm's semver answers for ranges and versions drawn at random from a fixed seed.
//
//   npm install semver@7            (anywhere; run this from there, or set NODE_PATH)
//   node make_npm_ranges.mjs [RANGES] [SEED] > npm_ranges.json
//
// One case is [range, versions, answers, answers with includePrerelease]; an answer is a string of 0 and 1, one for
// each version, or null where npm refuses the range.
import { createRequire } from 'node:module'
import { pathToFileURL } from 'node:url'

const require = createRequire(pathToFileURL(`${process.cwd()}/`))
const semver = require('semver')
const [ranges = '900', seed = '20240117'] = process.argv.slice(2)

let state = Number(seed) >>> 0
function random () { // mulberry32
  state = (state + 0x6d2b79f5) >>> 0
  let t = state
  t = Math.imul(t ^ (t >>> 15), t | 1)
  t ^= t + Math.imul(t ^ (t >>> 7), t | 61)
  return ((t ^ (t >>> 14)) >>> 0) / 4294967296
}
const below = (n) => Math.floor(random() * n)
const pick = (list) => list[below(list.length)]
const chance = (p) => random() < p

const number = () => pick(['0', '0', '1', '1', '2', '3', '9', '10', '11', '9007199254740991'].slice(0, chance(0.02) ? 10 : 9))
const identifier = () => pick(['0', '1', '2', '10', 'a', 'A', 'alpha', 'beta', 'rc', '0a', '-', 'x', 'a-b', '-1'])
const pre = () => Array.from({ length: 1 + below(3) }, identifier).join('.')
const build = () => '+' + pick(['b', '001', 'a.b', 'exp-sha.5114f85'])
const version = () => `${number()}.${number()}.${number()}${chance(0.45) ? '-' + pre() : ''}${chance(0.05) ? build() : ''}`
const wild = () => pick(['x', 'X', '*'])

function partial () {
  if (chance(0.5)) return version()
  const parts = [chance(0.06) ? wild() : number()]
  if (chance(0.7)) parts.push(chance(0.15) ? wild() : number())
  if (parts.length === 2 && chance(0.3)) parts.push(chance(0.5) ? wild() : number())
  let text = parts.join('.')
  if (parts.length === 3 && chance(0.15)) text += '-' + pre()
  if (chance(0.02)) text += build()
  if (chance(0.01)) text += '-' + pre()
  return text
}
const blank = () => chance(0.12) ? pick([' ', '  ', '\t']) : ''
const prefix = () => chance(0.06) ? pick(['v', '=', 'v=', 'vv', 'V']) : ''
function comparator () {
  const operator = pick(['', '', '^', '^', '^', '~', '~', '~>', '>', '>=', '>=', '<', '<', '<=', '='])
  return operator + blank() + prefix() + partial()
}
function alternative () {
  if (chance(0.15)) return `${prefix()}${partial()}${pick([' ', ' ', '  '])}-${pick([' ', ' ', '  '])}${prefix()}${partial()}`
  return Array.from({ length: pick([1, 1, 1, 2, 2, 3]) }, comparator).join(pick([' ', ' ', '  ']))
}
function broken (text) {
  const place = below(text.length + 1)
  return text.slice(0, place) + pick(['.', '-', ' ', '>', '~', '^', '=', 'x', ',', '!', '0', 'é', '|', '']) + text.slice(place + below(2))
}
function range () {
  if (chance(0.02)) return pick(['', '*', ' ', '||', 'x', 'latest', '>x', '<*', '>=*', '^*', '~x'])
  let text = Array.from({ length: pick([1, 1, 1, 2, 2, 3]) }, alternative).join(pick(['||', ' || ']))
  if (chance(0.05)) text = pick([' ', '  ']) + text + ' '
  return chance(0.06) ? broken(text) : text
}
// Versions at the edges of the range tell more than versions drawn blindly.
function near (text) {
  const found = [...text.matchAll(/(\d+)(?:\.(\d+))?(?:\.(\d+))?(?:-([0-9A-Za-z.-]*[0-9A-Za-z]))?/g)]
  if (!found.length || chance(0.15)) return version()
  const [, ...at] = pick(found)
  const parts = at.slice(0, 3).map((one) => Math.max(0, Number(one ?? below(3)) + pick([0, 0, 0, 0, 1, -1])))
  const tail = chance(0.5) ? '' : '-' + (at[3] && chance(0.5) ? at[3] : pick([pre(), '0', 'rc.1']))
  const made = parts.join('.') + tail
  return semver.valid(made) ? made : version()
}

const cases = []
for (let i = 0; i < Number(ranges); i++) {
  const text = range()
  const versions = Array.from({ length: 8 }, () => near(text))
  const ask = (includePrerelease) => {
    if (semver.validRange(text, { includePrerelease }) === null) return null
    return versions.map((one) => semver.satisfies(one, text, { includePrerelease }) ? '1' : '0').join('')
  }
  cases.push([text, versions, ask(false), ask(true)])
}
const lines = cases.map((one) => JSON.stringify(one)).join(',\n')
process.stdout.write(`{"npm": "semver ${require('semver/package.json').version}", "seed": ${seed}, "cases": [\n${lines}\n]}\n`)
