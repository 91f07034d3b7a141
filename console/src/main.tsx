import "@cloudscape-design/global-styles/index.css";
import "./app.css";
import { StrictMode } from "react";
import { createRoot } from "react-dom/client";
import { App } from "./app/App";
import { pageAt } from "./app/pages";
import { applyPreferences } from "./app/preferences";
import { currentPath } from "./app/router";
import { tokenFromAddress } from "./app/session";

applyPreferences();
// The page loads while it asks the server for the session, and reports a failure.
pageAt(currentPath())?.load().catch(() => undefined);
const root = document.getElementById("root");
if (root) {
  createRoot(root).render(
    <StrictMode>
      <App token={tokenFromAddress()} />
    </StrictMode>,
  );
}
