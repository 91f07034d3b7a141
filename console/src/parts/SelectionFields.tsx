import Alert from "@cloudscape-design/components/alert";
import Checkbox from "@cloudscape-design/components/checkbox";
import Container from "@cloudscape-design/components/container";
import FormField from "@cloudscape-design/components/form-field";
import Header from "@cloudscape-design/components/header";
import RadioGroup from "@cloudscape-design/components/radio-group";
import SpaceBetween from "@cloudscape-design/components/space-between";
import type { ReactNode } from "react";
import { eventSelectors, type Selection } from "../pages/trailPlan";
import { SelectorPreview, usePreview } from "./SelectorPreview";

interface Props {
  selection: Selection;
  onChange: (selection: Selection) => void;
}

/** The events that a new trail delivers. */
export function SelectionFields({ selection, onChange, problem }: Props & { problem: string | null }): ReactNode {
  const preview = usePreview(problem ? null : { EventSelectors: eventSelectors(selection) });
  return (
    <SpaceBetween size="l">
      {problem && <Alert type="error">{problem}</Alert>}
      <BasicSelectorFields selection={selection} onChange={onChange} />
      <InsightFields selection={selection} onChange={onChange} />
      <SelectorPreview {...preview} />
    </SpaceBetween>
  );
}

export function BasicSelectorFields({ selection, onChange }: Props): ReactNode {
  const set = (part: Partial<Selection>): void => onChange({ ...selection, ...part });
  return (
    <SpaceBetween size="l">
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
      <Container header={<Header variant="h2" description="Calls on the contents of resources, often in very large numbers.">Data events</Header>}>
        <SpaceBetween size="xs">
          <Checkbox checked={selection.s3} onChange={({ detail }) => set({ s3: detail.checked })}>
            Objects of all S3 buckets
          </Checkbox>
          <Checkbox checked={selection.lambda} onChange={({ detail }) => set({ lambda: detail.checked })}>
            Invocations of all Lambda functions
          </Checkbox>
        </SpaceBetween>
      </Container>
    </SpaceBetween>
  );
}

export function InsightFields({ selection, onChange }: Props): ReactNode {
  return (
    <Container header={<Header variant="h2">Insights events</Header>}>
      <SpaceBetween size="xs">
        <Checkbox checked={selection.callRate} onChange={({ detail }) => onChange({ ...selection, callRate: detail.checked })}>
          API call rate
        </Checkbox>
        <Checkbox checked={selection.errorRate} onChange={({ detail }) => onChange({ ...selection, errorRate: detail.checked })}>
          API error rate
        </Checkbox>
      </SpaceBetween>
    </Container>
  );
}
