// Answers questions about versions and ranges with npm's semver, one JSON line for each.
//
//   node ask_npm.mjs FOLDER_OF_SEMVER < questions > answers
//
// The first answer is the version of semver. Questions: ["range", text, versions] is answered by two strings of 0 and 1,
// one for each version, without and with includePrerelease, or null where npm refuses; ["compare", one, other] by -1, 0
// or 1, or null where npm refuses one of them.
import { createRequire } from 'node:module'
import { createInterface } from 'node:readline'
import { pathToFileURL } from 'node:url'

const folder = process.argv[2]
const require = createRequire(pathToFileURL(`${folder}/`))
const semver = require(folder)
const Range = semver.Range

function satisfied (text, versions, includePrerelease) {
  let range
  try { range = new Range(text, { includePrerelease }) } catch { return null }
  return versions.map((one) => range.test(one) ? '1' : '0').join('')
}

function answer ([kind, text, rest]) {
  if (kind === 'range') return [satisfied(text, rest, false), satisfied(text, rest, true)]
  return semver.valid(text) && semver.valid(rest) ? semver.compare(text, rest) : null
}

const answers = [JSON.stringify(require(`${folder}/package.json`).version)]
for await (const line of createInterface({ input: process.stdin })) answers.push(JSON.stringify(answer(JSON.parse(line))))
process.stdout.write(answers.join('\n') + '\n')
