import Box from "@cloudscape-design/components/box";
import Icon from "@cloudscape-design/components/icon";
import Link from "@cloudscape-design/components/link";
import type { ReactNode } from "react";
import { get } from "../api/client";
import { TEMPORARY } from "../api/origins";
import type { CallerChain as Chain, Event } from "../api/types";
import { useCall } from "../api/useCall";
import { usePreferences } from "../app/preferences";
import { follow, href } from "../app/router";
import { span, stamp } from "../text/time";
import { capitalized, visible } from "../text/visible";
import { Problem } from "./Problem";

interface Props {
  event: Event;
  /** Called on a click on a step; without it the link opens the event page. */
  onOpen?: (id: string) => void;
}

/** The origin of temporary credentials: the calls that issued them, the event, and later calls. */
export function CallerChain({ event, onOpen }: Props): ReactNode {
  const asks = TEMPORARY.has(event.principalType ?? "");
  const { data, error, reload } = useCall(
    asks ? (signal) => get<Chain>(`events/${encodeURIComponent(event.eventId)}/caller`, {}, signal) : null,
    [event.eventId, asks],
  );
  if (!asks) return null;
  return (
    <section aria-label="Who was behind it">
      <Box variant="h3">{data?.origin ? `Behind it: ${visible(data.origin)}` : "Who was behind it"}</Box>
      <Problem error={error} what="The calls before this one could not be loaded" onRetry={reload} />
      {data && (
        <ol className="chain">
          {!data.origin && <li className="unknown">{visible(capitalized(data.end))}.</li>}
          {data.steps.toReversed().map((step) => (
            <Step key={step.eventId} step={step} event={event} onOpen={onOpen} />
          ))}
          <Step step={event} event={event} />
          {data.next.map((step) => (
            <Step key={step.eventId} step={step} event={event} onOpen={onOpen} />
          ))}
        </ol>
      )}
    </section>
  );
}

function Step({ step, event, onOpen }: { step: Event; event: Event; onOpen?: (id: string) => void }): ReactNode {
  const { zone } = usePreferences();
  const isThis = step.eventId === event.eventId;
  const facts = [stamp(step.eventTime, zone), !isThis && distance(step, event), step.sourceIp && `from ${visible(step.sourceIp)}`, step.mfa && "with MFA"];
  const text = visible(step.clause);
  return (
    <li className={isThis ? "this" : undefined} aria-current={isThis || undefined}>
      {isThis ? (
        <strong>{text}</strong>
      ) : (
        <Link
          href={href(`/events/${encodeURIComponent(step.eventId)}`)}
          onFollow={(followed) => {
            if (!onOpen) return follow(followed);
            followed.preventDefault();
            return onOpen(step.eventId);
          }}
        >
          {text}
        </Link>
      )}{" "}
      {step.errorCode && <Icon name="status-negative" size="small" variant="error" ariaLabel="Failed" />}
      <div className="secondary">{facts.filter(Boolean).join(" · ")}</div>
    </li>
  );
}

/** The time between a step and the event. */
function distance(step: Event, event: Event): string {
  const seconds = (Date.parse(step.eventTime) - Date.parse(event.eventTime)) / 1000;
  if (seconds === 0) return "in the same second";
  return `${span(seconds)} ${seconds < 0 ? "before" : "later"}`;
}
