import { defineConfig } from "vitest/config";

export default defineConfig({
  // Relative addresses, so that the page works below any path.
  base: "./",
  build: {
    // What a router serves at "/"; it ships inside the Python package.
    outDir: "../sisock/page/built",
    emptyOutDir: true,
    target: "es2022",
    // The page holds others' code, and their licences say that these go with it.
    license: { fileName: "licenses.md" },
    modulePreload: { polyfill: false },
    // Nothing is put into the page itself: its content security policy allows files of its own origin only.
    assetsInlineLimit: 0,
    chunkSizeWarningLimit: 700,
    // Autobahn carries an eval for browsers without JSON; the page's policy would not let it run.
    rolldownOptions: { checks: { eval: false } },
  },
  // Longer than what a test waits for, which says more.
  test: { include: ["tests/**/*.test.ts"], testTimeout: 20_000 },
});
