import "@cloudscape-design/global-styles/index.css";
import "./app.css";
import { StrictMode } from "react";
import { createRoot } from "react-dom/client";
import { App } from "./app/App";
import { applyPreferences } from "./app/preferences";
import { tokenFromAddress } from "./app/session";

applyPreferences();
const root = document.getElementById("root");
if (root) {
  createRoot(root).render(
    <StrictMode>
      <App token={tokenFromAddress()} />
    </StrictMode>,
  );
}
