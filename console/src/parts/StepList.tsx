import SpaceBetween from "@cloudscape-design/components/space-between";
import StatusIndicator from "@cloudscape-design/components/status-indicator";
import type { ReactNode } from "react";
import type { Step } from "../api/types";
import { visible } from "../text/visible";

export interface NamedStep {
  id: string;
  text: string;
}

/** The steps of an action with the result of each, as they arrive. */
export function StepList({ steps, results, running }: { steps: NamedStep[]; results: Pick<Step, "done" | "error">[] & { length: number }; running: boolean }): ReactNode {
  return (
    <div aria-live="polite">
      <SpaceBetween size="xs">
        {steps.map(({ id, text }, index) => {
          const result = results[index];
          const isNext = running && index === results.length;
          const type = result ? (result.error ? "error" : "success") : isNext ? "in-progress" : "pending";
          return (
            <StatusIndicator key={id} type={type}>
              {text}
              {result?.error && ` – ${visible(result.error.message)} (${visible(result.error.code)})`}
            </StatusIndicator>
          );
        })}
      </SpaceBetween>
    </div>
  );
}
