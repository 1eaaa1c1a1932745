// A person's browser: Debian's Chromium, driven by the npm package `playwright-core`, looked at by `axe-core`.
//
// node browser.mjs FOLDER_OF_NODE_MODULES FOLDER_FOR_SCREENSHOTS
import { mkdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { answer, load, locate } from './lines.mjs'

const [modules, pictures] = process.argv.slice(2)
const { chromium } = await load(modules, 'playwright-core')
const axe = readFileSync(locate(modules, 'axe-core'), 'utf8')

const PATIENCE_MS = 15_000

// As root, Chromium refuses its own sandbox; it opens nothing here but the story's servers.
const sandboxed = process.getuid() !== 0
const browser = await chromium.launch({ executablePath: '/usr/bin/chromium', chromiumSandbox: sandboxed })
const devices = new Map()

const device = (name) => {
  if (!devices.has(name)) throw new Error(`no device ${name} was opened`)
  return devices.get(name)
}

// What the page says of itself when nothing was asked.
const watch = (page, problems) => {
  page.on('console', (message) => {
    // A 4xx of the page itself is what some stories are about.
    const expected = message.text().startsWith('Failed to load resource: the server responded with a status of 4')
    if (['error', 'warning'].includes(message.type()) && !expected) problems.push(message.text())
  })
  page.on('pageerror', (error) => problems.push(String(error)))
}

const see = async (page) => ({
  url: page.url(),
  title: await page.title(),
  heading: (await page.locator('h1').allTextContents())[0]?.trim() ?? '',
  // A page may go on by itself while it is read.
  text: await page.locator('body').innerText({ timeout: 2_000 }).catch(() => ''),
})

const settled = async (page) => {
  await page.waitForLoadState('load')
  return see(page)
}

const byName = (page, name) => {
  const exact = { name, exact: true }
  return page.getByRole('button', exact).or(page.getByRole('link', exact)).first()
}

await answer({
  open: async ({ device: name, options }) => {
    const context = await browser.newContext({ locale: 'en-GB', ...options })
    context.setDefaultTimeout(PATIENCE_MS)
    const [page, problems] = [await context.newPage(), []]
    watch(page, problems)
    devices.set(name, { context, page, problems })
  },
  close: async ({ device: name }) => {
    await device(name).context.close()
    devices.delete(name)
  },
  goto: async ({ device: name, url }) => {
    const response = await device(name).page.goto(url)
    return { ...(await settled(device(name).page)), status: response.status(), headers: response.headers() }
  },
  fill: ({ device: name, label, text }) => device(name).page.getByLabel(label, { exact: true }).fill(text),
  check: ({ device: name, label }) => device(name).page.getByLabel(label).check(),
  // Clicks what leads to another page, and says what is there.
  follow: async ({ device: name, name: text, within }) => {
    const { page } = device(name)
    const place = within ? page.locator('li, form', { hasText: within }) : page
    const navigated = page.waitForNavigation()
    await byName(place, text).click()
    const response = await navigated
    return { ...(await settled(page)), status: response?.status() ?? 0 }
  },
  // Clicks what leads nowhere else.
  click: ({ device: name, name: text, within }) => {
    const { page } = device(name)
    return byName(within ? page.locator('li, form', { hasText: within }) : page, text).click()
  },
  // Waits until a text can be read.
  read: ({ device: name, text }) => device(name).page.getByText(text).first().waitFor(),
  submit: async ({ device: name, form, fields }) => {
    const { page } = device(name)
    for (const [field, text] of fields) await page.locator(`${form} [name="${field}"]`).fill(text)
    const navigated = page.waitForNavigation()
    await page.locator(`${form} button[type=submit]`).first().click()
    await navigated
    return settled(page)
  },
  // Types into what has the focus.
  type: ({ device: name, text }) => device(name).page.keyboard.type(text),
  press: ({ device: name, key }) => device(name).page.keyboard.press(key),
  // Presses a key that leads to another page.
  enter: async ({ device: name, key }) => {
    const { page } = device(name)
    const navigated = page.waitForNavigation()
    await page.keyboard.press(key)
    await navigated
    return settled(page)
  },
  focused: ({ device: name }) => device(name).page.evaluate(() => {
    const element = document.activeElement
    const shown = getComputedStyle(element)
    return {
      tag: element.tagName.toLowerCase(),
      name: (element.labels?.[0] ?? element).innerText?.trim() ?? '',
      outlined: shown.outlineStyle !== 'none' && shown.outlineWidth !== '0px',
    }
  }),
  wait_for_url: async ({ device: name, prefix }) => {
    const { page } = device(name)
    await page.waitForURL((url) => url.href.startsWith(prefix))
    return settled(page)
  },
  count: ({ device: name, selector }) => device(name).page.locator(selector).count(),
  evaluate: ({ device: name, script }) => device(name).page.evaluate(script),
  cookies: ({ device: name }) => device(name).context.cookies(),
  forget_cookie: ({ device: name, name: cookie }) => device(name).context.clearCookies({ name: cookie }),
  // As when somebody closes the last window: cookies without an end are gone.
  forget_session_cookies: async ({ device: name }) => {
    const { context } = device(name)
    const kept = (await context.cookies()).filter((cookie) => cookie.expires !== -1)
    await context.clearCookies()
    await context.addCookies(kept)
  },
  problems: ({ device: name }) => device(name).problems.splice(0),
  frames: ({ device: name }) => device(name).page.frames().map((frame) => frame.url()),
  axe: async ({ device: name }) => {
    const { page } = device(name)
    await page.evaluate(axe)
    // Preloading would fetch style sheets anew, which the page's policy rightly refuses.
    const { violations } = await page.evaluate(() => window.axe.run(document, { preload: false }))
    return violations.map(({ id, help, nodes }) => `${id}: ${help}: ${nodes.map((node) => node.html).join(' | ')}`)
  },
  screenshot: async ({ device: name, name: file }) => {
    mkdirSync(pictures, { recursive: true })
    await device(name).page.screenshot({ path: join(pictures, `${file}.png`), fullPage: true })
  },
})
await browser.close()
