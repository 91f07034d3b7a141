import Container from "@cloudscape-design/components/container";
import Header from "@cloudscape-design/components/header";
import type { ReactNode } from "react";
import { post } from "../api/client";
import type { SelectorPreview as Preview } from "../api/types";
import { type Call, useCall } from "../api/useCall";
import { useCalm } from "../app/calm";
import { number } from "../text/time";
import { visible } from "../text/visible";

/** Counts the events of the last day that event selectors, as members of PutEventSelectors, match; null: no request. */
export function usePreview(selectors: object | null, path: "trails/preview" | "stores/preview" = "trails/preview"): Call<Preview> {
  const asked = useCalm(JSON.stringify(selectors), 400);
  return useCall(asked === "null" ? null : (signal) => post<Preview>(path, JSON.parse(asked), {}, signal), [asked]);
}

/** The number of events of the last day that the trail would have delivered, or the store kept. */
export function SelectorPreview({ data, error }: Call<Preview>): ReactNode {
  if (!data || error) return null;
  const { events, selected, complete, leftOut } = data;
  const share = events ? ` (${Math.round((100 * selected) / events)} %)` : "";
  const of = complete ? `${number(events)} events of the last day` : `the newest ${number(events)} events`;
  return (
    <Container header={<Header variant="h2">Preview</Header>}>
      <div aria-live="polite">
        <p className="answer-sentence">
          {number(selected)} of {of}
          {share}
        </p>
        {leftOut.length > 0 && (
          <p className="secondary">Left out: {leftOut.map(({ value, count }) => `${visible(value)} ${number(count)}`).join(", ")}</p>
        )}
      </div>
    </Container>
  );
}
