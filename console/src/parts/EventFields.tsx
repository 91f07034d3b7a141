import Alert from "@cloudscape-design/components/alert";
import Box from "@cloudscape-design/components/box";
import Container from "@cloudscape-design/components/container";
import Header from "@cloudscape-design/components/header";
import RadioGroup from "@cloudscape-design/components/radio-group";
import SpaceBetween from "@cloudscape-design/components/space-between";
import type { ReactNode } from "react";
import { isComplete } from "../pages/advancedSelectors";
import { asAdvanced, asBasic, type Events, selectorsOf } from "../pages/trailChanges";
import { AdvancedSelectorFields } from "./AdvancedSelectorFields";
import { BasicSelectorFields, InsightFields } from "./SelectionFields";
import { SelectorPreview, usePreview } from "./SelectorPreview";

interface Props {
  events: Events;
  onChange: (events: Events) => void;
  problem: string | null;
  /** Whether to name missing values. */
  attempted: boolean;
  /** Why the server did not set the selectors. */
  refusal: string | null;
}

/** The events that a trail delivers, by basic or advanced event selectors. */
export function EventFields({ events, onChange, problem, attempted, refusal }: Props): ReactNode {
  const isAdvanced = events.kind === "advanced";
  const complete = !isAdvanced || isComplete(events.advanced);
  const preview = usePreview(problem || !complete ? null : selectorsOf(events));
  const invalid = preview.error?.code === "InvalidEventSelectorsException" ? preview.error.message : null;
  return (
    <SpaceBetween size="l">
      {problem && <Alert type="error">{problem}</Alert>}
      <Container
        header={
          <Header variant="h2" description="Basic and advanced selectors replace each other.">
            Event selectors
          </Header>
        }
      >
        <RadioGroup
          ariaLabel="Event selectors"
          value={events.kind}
          onChange={({ detail }) => onChange(detail.value === "advanced" ? asAdvanced(events) : asBasic(events))}
          items={[
            { value: "basic", label: "Basic", description: "Management events, and data events of all S3 objects or Lambda functions." },
            {
              value: "advanced",
              label: "Advanced",
              description: "Conditions on fields. An event is delivered if it matches all conditions of any selector.",
            },
          ]}
        />
      </Container>
      {events.replaces && !isAdvanced && (
        <Alert type="warning" header="These basic event selectors replace the advanced ones">
          Basic event selectors cannot select what the advanced ones do. Choose Advanced to have these back.
        </Alert>
      )}
      {isAdvanced ? (
        <AdvancedSelectorFields owner="trail" selectors={events.advanced} onChange={(advanced) => onChange({ ...events, advanced })} attempted={attempted} refusal={refusal ?? invalid} />
      ) : events.keepsComplex ? (
        <Alert type="info" header="This form cannot show all parts of the basic event selectors">
          They stay as they are. Choose Advanced to edit the advanced ones that select the same events.
        </Alert>
      ) : (
        <BasicSelectorFields selection={events.selection} onChange={(selection) => onChange({ ...events, selection })} />
      )}
      <InsightFields selection={events.selection} onChange={(selection) => onChange({ ...events, selection })} />
      {complete ? <SelectorPreview {...preview} /> : <Box color="text-body-secondary">Events are counted once every condition has a value.</Box>}
    </SpaceBetween>
  );
}
