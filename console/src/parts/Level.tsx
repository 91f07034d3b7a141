import StatusIndicator from "@cloudscape-design/components/status-indicator";
import type { ReactNode } from "react";
import { capitalized, visible } from "../text/visible";

const STATES = { informational: "info", low: "info", medium: "warning", high: "error", critical: "error" } as const;

/** The level of a rule. */
export function Level({ level }: { level: string }): ReactNode {
  return <StatusIndicator type={STATES[level as keyof typeof STATES] ?? "info"}>{capitalized(visible(level))}</StatusIndicator>;
}
