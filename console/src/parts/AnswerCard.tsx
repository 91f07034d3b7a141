import Link from "@cloudscape-design/components/link";
import type { ReactNode } from "react";
import type { NameAnswer } from "../api/types";
import { usePreferences } from "../app/preferences";
import { follow, href } from "../app/router";
import { number, spoken } from "../text/time";
import { visible } from "../text/visible";
import { Copy } from "./Copy";

interface Props {
  answer: NameAnswer;
  onOpen: (id: string) => void;
}

/** The answer about a searched name, above the events that contain it. */
export default function AnswerCard({ answer, onOpen }: Props): ReactNode {
  const { zone } = usePreferences();
  const { event, sentence, clause, types, behind } = answer;
  if (!event || sentence === null || clause === null) return null;
  const text = spoken({ eventTime: event.eventTime, sentence, clause }, zone);
  const story = types.length ? href("/resources", { name: answer.name }) : href("/principals", { arn: event.arn ?? "" });
  return (
    <section className="answer" aria-label="Answer">
      <p className="answer-sentence">{visible(text)}</p>
      {behind && <p>Behind it: {visible(behind)}</p>}
      {types.length > 1 && (
        <p>
          {types.length} resources are called {visible(answer.name)}: {types.map(visible).join(", ")}
        </p>
      )}
      <p className="secondary">{facts(answer).map(visible).join(" · ")}</p>
      <div className="actions">
        <Link
          href={href(`/events/${encodeURIComponent(event.eventId)}`)}
          onFollow={(followed) => {
            followed.preventDefault();
            onOpen(event.eventId);
          }}
        >
          Open event
        </Link>
        {(types.length > 0 || event.arn) && (
          <Link href={story} onFollow={follow}>
            Life story
          </Link>
        )}
        <Copy label="Copy the answer" text={() => text} />
      </div>
    </section>
  );
}

/** Later events, and calls by the user with that name. */
function facts({ name, changes, complete, calls, failed }: NameAnswer): string[] {
  const found: string[] = [];
  if (changes) found.push(`${complete ? "" : "at least "}${number(changes)} ${changes === 1 ? "change" : "changes"} since then`);
  if (calls) found.push(`${number(calls)} ${calls === 1 ? "call" : "calls"} by ${name}${failed ? `, ${number(failed)} of them failed` : ""}`);
  return found;
}
