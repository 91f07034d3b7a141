import Alert from "@cloudscape-design/components/alert";
import Checkbox from "@cloudscape-design/components/checkbox";
import Container from "@cloudscape-design/components/container";
import FormField from "@cloudscape-design/components/form-field";
import Header from "@cloudscape-design/components/header";
import RadioGroup from "@cloudscape-design/components/radio-group";
import SpaceBetween from "@cloudscape-design/components/space-between";
import type { ReactNode } from "react";
import { post } from "../api/client";
import type { SelectorPreview } from "../api/types";
import { useCall } from "../api/useCall";
import { useCalm } from "../app/calm";
import { eventSelectors, type Selection } from "../pages/trailPlan";
import { number } from "../text/time";
import { visible } from "../text/visible";

interface Props {
  selection: Selection;
  onChange: (selection: Selection) => void;
  problem: string | null;
}

/** Which events a trail delivers. */
export function SelectionFields({ selection, onChange, problem }: Props): ReactNode {
  const set = (part: Partial<Selection>): void => onChange({ ...selection, ...part });
  return (
    <SpaceBetween size="l">
      {problem && <Alert type="error">{problem}</Alert>}
      <Container header={<Header variant="h2">Management events</Header>}>
        <FormField label="Calls that manage resources" stretch>
          <RadioGroup
            value={selection.management}
            onChange={({ detail }) => set({ management: detail.value as Selection["management"] })}
            items={[
              { value: "All", label: "All" },
              { value: "WriteOnly", label: "Write", description: "Calls that change something, such as CreateUser." },
              { value: "ReadOnly", label: "Read", description: "Calls such as ListUsers." },
              { value: "None", label: "None" },
            ]}
          />
        </FormField>
      </Container>
      <Container header={<Header variant="h2" description="Calls for what is in resources. There may be very many.">Data events</Header>}>
        <SpaceBetween size="xs">
          <Checkbox checked={selection.s3} onChange={({ detail }) => set({ s3: detail.checked })}>
            Objects of all S3 buckets
          </Checkbox>
          <Checkbox checked={selection.lambda} onChange={({ detail }) => set({ lambda: detail.checked })}>
            Invocations of all Lambda functions
          </Checkbox>
        </SpaceBetween>
      </Container>
      <Container header={<Header variant="h2">Insights events</Header>}>
        <SpaceBetween size="xs">
          <Checkbox checked={selection.callRate} onChange={({ detail }) => set({ callRate: detail.checked })}>
            API call rate
          </Checkbox>
          <Checkbox checked={selection.errorRate} onChange={({ detail }) => set({ errorRate: detail.checked })}>
            API error rate
          </Checkbox>
        </SpaceBetween>
      </Container>
      {!problem && <Preview selection={selection} />}
    </SpaceBetween>
  );
}

/** How many events of the last day the trail would have delivered. */
function Preview({ selection }: { selection: Selection }): ReactNode {
  const asked = useCalm(JSON.stringify({ EventSelectors: eventSelectors(selection) }), 400);
  const { data, error } = useCall((signal) => post<SelectorPreview>("trails/preview", JSON.parse(asked), {}, signal), [asked]);
  if (!data || error) return null;
  const { events, selected, complete, leftOut } = data;
  const share = events ? ` (${Math.round((100 * selected) / events)} %)` : "";
  const of = complete ? `${number(events)} events of the last day` : `the newest ${number(events)} events`;
  return (
    <Container header={<Header variant="h2">Of what was recorded</Header>}>
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
