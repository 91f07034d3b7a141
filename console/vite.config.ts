import { createReadStream, createWriteStream, existsSync, readdirSync, readFileSync, statSync } from "node:fs";
import { join, resolve } from "node:path";
import { pipeline } from "node:stream/promises";
import { constants, createBrotliCompress, createGzip, gzipSync } from "node:zlib";
import type { Plugin } from "vite";
import { defineConfig } from "vitest/config";

/** Removes the eight fonts that global-styles embeds as data: URLs, which the CSP forbids. */
const stripFonts: Plugin = {
  name: "strip-fonts",
  enforce: "pre",
  transform: (code, id) =>
    id.includes("global-styles") && id.endsWith(".css")
      ? { code: code.replace(/@font-face\s*{[^}]*}/g, ""), map: null }
      : undefined,
};

/** Keeps the texts of components that the console uses; the others are as many. */
const stripTexts: Plugin = {
  name: "strip-texts",
  enforce: "pre",
  transform: (code, id) => {
    if (!id.endsWith("/i18n/messages/all.en.js")) return undefined;
    const messages = JSON.parse(code.replace(/^export default /, "").replace(/;?\s*$/, ""));
    for (const name of UNUSED) delete messages["cloudscape-design-components"].en[name];
    return { code: `export default ${JSON.stringify(messages)}`, map: null };
  },
};
const UNUSED = (
  "[charts] annotation-context area-chart attribute-editor bar-chart calendar cards code-editor collection-preferences " +
  "copy-to-clipboard date-picker date-range-picker features-notification-drawer file-dropzone file-input file-token-group " +
  "file-upload flashbar help-panel line-chart list mixed-line-bar-chart multiselect pagination pie-chart prompt-input " +
  "s3-resource-selector slider tag-editor text-filter time-input token-group tree-view tutorial-panel"
).split(" ");

/** Writes the licences of the packages that the bundle contains. */
const licences: Plugin = {
  name: "licences",
  apply: "build",
  generateBundle(_options, bundle) {
    const folders = new Set<string>();
    for (const chunk of Object.values(bundle)) {
      if (chunk.type !== "chunk") continue;
      for (const id of chunk.moduleIds) {
        const found = /^.*\/node_modules\/(?:@[^/]+\/)?[^/]+/.exec(id.replace(/^\0/, ""));
        if (found) folders.add(found[0]);
      }
    }
    folders.add(resolve(import.meta.dirname, "node_modules/@cloudscape-design/global-styles"));
    const parts = [...folders].sort().map((folder) => {
      const manifest = JSON.parse(readFileSync(join(folder, "package.json"), "utf8"));
      const files = readdirSync(folder).filter((name) => /^(licen[cs]e|notice)/i.test(name)).sort();
      const texts = files.map((name) => readFileSync(join(folder, name), "utf8").trim());
      return [`${manifest.name} ${manifest.version} (${manifest.license ?? "see below"})`, ...texts].join("\n\n");
    });
    const source = parts.join(`\n\n${"-".repeat(80)}\n\n`) + "\n";
    this.emitFile({ type: "asset", fileName: "THIRD_PARTY_LICENSES.txt", source });
  },
};

/** Maximum bytes (gzip) that the event history loads: JavaScript and styles. */
const BUDGET = 400_000;

/** Maximum files of JavaScript and styles that it loads. */
const MAX_FILES = 12;

/** Fails the build if the event history has become too large. */
const budget: Plugin = {
  name: "budget",
  apply: "build",
  generateBundle(_options, bundle) {
    const needed = new Set<string>();
    const need = (name: string): void => {
      const chunk = bundle[name];
      if (chunk?.type !== "chunk" || needed.has(name)) return;
      needed.add(name);
      for (const style of chunk.viteMetadata?.importedCss ?? []) needed.add(style);
      chunk.imports.forEach(need);
    };
    for (const chunk of Object.values(bundle)) {
      if (chunk.type === "chunk" && (chunk.isEntry || chunk.facadeModuleId?.endsWith("/pages/History.tsx"))) need(chunk.fileName);
    }
    const sizes = [...needed].map((name) => {
      const file = bundle[name];
      return gzipSync(file?.type === "chunk" ? file.code : (file?.source ?? ""), { level: 9 }).length;
    });
    const total = sizes.reduce((sum, size) => sum + size, 0);
    if (total > BUDGET) this.error(`the event history loads ${total} bytes (gzip), more than ${BUDGET}: load some of it with lazy()`);
    if (needed.size > MAX_FILES) this.error(`the event history loads ${needed.size} files, more than ${MAX_FILES}`);
    if (process.env.SHOW_SIZES) this.info(`the event history loads ${total} bytes (gzip) in ${needed.size} files`);
  },
};

/** Writes .br and .gz beside each file of 1 KiB or more, which the server sends as they are. */
const compress: Plugin = {
  name: "compress",
  apply: "build",
  async writeBundle(options) {
    for (const path of filesIn(options.dir ?? "")) {
      if (statSync(path).size < 1024 || !/\.(js|css|html|svg|json|txt)$/.test(path)) continue;
      const brotli = createBrotliCompress({ params: { [constants.BROTLI_PARAM_QUALITY]: 11 } });
      await pipeline(createReadStream(path), createGzip({ level: 9 }), createWriteStream(`${path}.gz`));
      await pipeline(createReadStream(path), brotli, createWriteStream(`${path}.br`));
    }
  },
};

function filesIn(folder: string): string[] {
  if (!existsSync(folder)) return [];
  return readdirSync(folder, { withFileTypes: true }).flatMap((entry) =>
    entry.isDirectory() ? filesIn(join(folder, entry.name)) : [join(folder, entry.name)],
  );
}

const server = process.env.OPENTRAIL_CONSOLE ?? "http://127.0.0.1:4587";

export default defineConfig({
  base: "/console/",
  resolve: {
    // Cloudscape's texts are parsed already.
    alias: { "@formatjs/icu-messageformat-parser": "@formatjs/icu-messageformat-parser/lib/no-parser.js" },
  },
  plugins: [stripFonts, stripTexts, licences, budget, compress],
  build: {
    outDir: "../src/opentrail/console_static",
    emptyOutDir: true,
    target: "es2022",
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    manifest: true,
    chunkSizeWarningLimit: 1024,
    rolldownOptions: {
      checks: { pluginTimings: false },
      onwarn: (warning, warn) => warning.code !== "MODULE_LEVEL_DIRECTIVE" && warn(warning),
      output: {
        // Few chunks: a page that needs tens of files waits for them.
        codeSplitting: {
          groups: [
            { name: "react", test: /node_modules\/(react|react-dom|scheduler)\//, priority: 3 },
            { name: "cloudscape", test: /node_modules\//, minShareCount: 3, priority: 2 },
            { name: "shared", test: /\/src\//, minShareCount: 3, priority: 1 },
          ],
        },
      },
    },
  },
  server: { port: 5173, strictPort: true, proxy: { "/api/v1": { target: server, changeOrigin: true, headers: { origin: server } } } },
  test: {
    environment: "jsdom",
    include: ["tests/**/*.test.{ts,tsx}"],
    setupFiles: ["tests/setup.ts"],
    server: { deps: { inline: [/@cloudscape-design/] } },
    testTimeout: 120_000,
    // Loading the components for each file took half of the time; tests/setup.ts tidies up between files.
    isolate: false,
  },
});
