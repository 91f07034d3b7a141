import Alert from "@cloudscape-design/components/alert";
import Box from "@cloudscape-design/components/box";
import Link from "@cloudscape-design/components/link";
import SpaceBetween from "@cloudscape-design/components/space-between";
import StatusIndicator from "@cloudscape-design/components/status-indicator";
import { type ReactNode, useState } from "react";
import { type ApiError, post } from "../api/client";
import type { DetectionTest } from "../api/types";
import { asApiError } from "../api/useCall";
import { usePreferences } from "../app/preferences";
import { follow } from "../app/router";
import { number, stamp } from "../text/time";
import { visible } from "../text/visible";
import { eventsOf } from "./matchEvents";

export interface Testing {
  tested: DetectionTest | null;
  error: ApiError | null;
  busy: boolean;
  run: (rule: { source: string } | { name: string }) => void;
  forget: () => void;
}

/** Tests rules on the events of the last 90 days. */
export function useRuleTest(): Testing {
  const [state, setState] = useState<Pick<Testing, "tested" | "error" | "busy">>({ tested: null, error: null, busy: false });
  return {
    ...state,
    run: (rule) => {
      setState({ tested: null, error: null, busy: true });
      post<DetectionTest>("detections/test", { ...rule, since: "90d" }).then(
        (tested) => setState({ tested, error: null, busy: false }),
        (problem) => setState({ tested: null, error: asApiError(problem), busy: false }),
      );
    },
    forget: () => setState({ tested: null, error: null, busy: false }),
  };
}

/** The matches of a rule in past events. */
export function RuleTest({ tested }: { tested: DetectionTest }): ReactNode {
  const { zone } = usePreferences();
  const times = (count: number): string => (count === 1 ? "once" : `${number(count)} times`);
  const read = tested.events === 1 ? "1 event" : `${number(tested.events)} events`;
  return (
    <SpaceBetween size="s">
      <StatusIndicator type={tested.matches ? "info" : "success"}>
        {tested.matches ? `Would have matched ${times(tested.matches)} in 90 days` : "Would not have matched in 90 days"}
      </StatusIndicator>
      <Box color="text-body-secondary">{`Read ${read} that the rule could match.`}</Box>
      {tested.readBackTo && <Alert type="info">{`There are more events than one test reads: it went back to ${stamp(tested.readBackTo, zone)}.`}</Alert>}
      {tested.warnings.map((text) => (
        <Alert key={text} type="warning">
          {`A part can never match: ${visible(text)}`}
        </Alert>
      ))}
      {tested.examples.length > 0 && (
        <ul className="wrap">
          {tested.examples.map(({ eventTime, eventName, principal, eventIds }) => (
            <li key={eventIds.join()}>
              <span className="numbers">{stamp(eventTime, zone)}</span>{" "}
              <Link href={eventsOf({ eventIds })} onFollow={follow}>
                {eventIds.length === 1 ? visible(eventName) : `${number(eventIds.length)} events`}
              </Link>
              {principal && ` by ${visible(principal)}`}
            </li>
          ))}
        </ul>
      )}
    </SpaceBetween>
  );
}
