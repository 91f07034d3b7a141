import Spinner from "@cloudscape-design/components/spinner";
import type { ComponentType } from "react";
import type { Role } from "../api/types";
import { onDemand } from "./onDemand";

type Load = () => Promise<{ default: ComponentType<{ parameter: string }> }>;

export interface PageEntry {
  pattern: RegExp;
  name: string;
  load: Load;
  component: ComponentType<{ parameter: string }>;
  /** The least role of its users. */
  least: Role;
}

const page = (pattern: RegExp, name: string, load: Load, least: Role = "viewer"): PageEntry => ({
  pattern,
  name,
  load,
  component: onDemand(load, <Spinner size="large" />),
  least,
});

/** Each page is its own chunk. The part of the path in parentheses is its parameter. */
export const PAGES: PageEntry[] = [
  page(/^\/$/, "Dashboard", () => import("../pages/Dashboard")),
  page(/^\/events$/, "Event history", () => import("../pages/History")),
  page(/^\/events\/([^/]+)$/, "Event", () => import("../pages/EventPage")),
  page(/^\/live$/, "Live", () => import("../pages/Live")),
  page(/^\/insights$/, "Insights", () => import("../pages/Insights")),
  page(/^\/insights\/([^/]+)$/, "Insight", () => import("../pages/Insight")),
  page(/^\/detections$/, "Detections", () => import("../pages/Detections")),
  page(/^\/principals$/, "Principals", () => import("../pages/Principals")),
  page(/^\/policy$/, "Least privilege", () => import("../pages/Policy"), "auditor"),
  page(/^\/resources$/, "Resources", () => import("../pages/Resources")),
  page(/^\/timeline$/, "Timeline", () => import("../pages/Timeline")),
  page(/^\/sql$/, "SQL", () => import("../pages/Sql")),
  page(/^\/trails$/, "Trails", () => import("../pages/Trails"), "auditor"),
  page(/^\/trails\/view$/, "Trail", () => import("../pages/Trail"), "auditor"),
  page(/^\/trails\/edit$/, "Edit trail", () => import("../pages/EditTrail"), "operator"),
  page(/^\/trails\/create$/, "Create trail", () => import("../pages/CreateTrail"), "operator"),
  page(/^\/stores$/, "Event data stores", () => import("../pages/Stores"), "auditor"),
  page(/^\/stores\/view$/, "Event data store", () => import("../pages/Store"), "auditor"),
  page(/^\/stores\/edit$/, "Edit event data store", () => import("../pages/EditStore"), "operator"),
  page(/^\/stores\/create$/, "Create event data store", () => import("../pages/EditStore"), "operator"),
  page(/^\/turn-on$/, "Turn On CloudTrail", () => import("../pages/TurnOn"), "operator"),
  page(/^\/activity$/, "API activity history", () => import("../pages/Activity")),
  page(/^\/integrity$/, "Integrity", () => import("../pages/Integrity"), "auditor"),
  page(/^\/users$/, "Users", () => import("../pages/Users"), "admin"),
  page(/^\/settings$/, "Settings", () => import("../pages/Settings")),
];

export function pageAt(path: string): PageEntry | undefined {
  return PAGES.find(({ pattern }) => pattern.test(path));
}
