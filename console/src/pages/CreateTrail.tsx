import Box from "@cloudscape-design/components/box";
import Button from "@cloudscape-design/components/button";
import ColumnLayout from "@cloudscape-design/components/column-layout";
import Container from "@cloudscape-design/components/container";
import Header from "@cloudscape-design/components/header";
import SpaceBetween from "@cloudscape-design/components/space-between";
import Tabs from "@cloudscape-design/components/tabs";
import Wizard from "@cloudscape-design/components/wizard";
import { type ReactNode, useRef, useState } from "react";
import { type ApiError, post, postLines } from "../api/client";
import type { Step } from "../api/types";
import { asApiError } from "../api/useCall";
import { href, navigate } from "../app/router";
import { Copy } from "../parts/Copy";
import { Problem } from "../parts/Problem";
import { SelectionFields } from "../parts/SelectionFields";
import { type NamedStep, StepList } from "../parts/StepList";
import { AdvancedFields, MainFields } from "../parts/TrailFields";
import { visible } from "../text/visible";
import { asCommands, asTerraform, delivered, eventSelectors, insightSelectors, needsSelectors, notDelivered, type Selection, selectionError, START_SELECTION } from "./trailPlan";
import { stepsOf } from "./TurnOn";
import { errorsOf, type Form, request, START } from "./turnOn";

type Result = Pick<Step, "done" | "error">;

export default function CreateTrail(): ReactNode {
  const [form, setForm] = useState<Form>(START);
  const [selection, setSelection] = useState<Selection>(START_SELECTION);
  const [active, setActive] = useState(0);
  const [attempted, setAttempted] = useState(false);
  const [results, setResults] = useState<Result[]>([]);
  const [error, setError] = useState<ApiError | null>(null);
  const [running, setRunning] = useState(false);
  const isBusy = useRef(false);
  const errors = errorsOf(form);
  const wrong = [Object.keys(errors).length > 0, selectionError(selection) !== null, false];
  const steps = [...stepsOf(request(form)), ...selectorSteps(selection)];

  const submit = async (): Promise<void> => {
    if (isBusy.current) return;
    isBusy.current = true;
    setRunning(true);
    setError(null);
    const done: Result[] = [];
    const report = (result: Result): void => {
      done.push(result);
      setResults([...done]);
    };
    try {
      for await (const step of postLines<Step>("turn-on", request(form))) report(step);
      if (done.every((step) => step.done) && done.length) {
        for (const { id } of selectorSteps(selection)) report(await apply(id, form, selection));
        if (done.every((step) => step.done)) navigate(href("/activity", { trail: form.name }));
      }
    } catch (failure) {
      setError(asApiError(failure));
    } finally {
      isBusy.current = false;
      setRunning(false);
    }
  };

  return (
    <Wizard
      activeStepIndex={active}
      onNavigate={({ detail }) => {
        const isBack = detail.requestedStepIndex < active;
        setAttempted(!isBack && Boolean(wrong[active]));
        if (isBack || !wrong.slice(0, detail.requestedStepIndex).some(Boolean)) setActive(detail.requestedStepIndex);
      }}
      onCancel={() => navigate(href("/trails"))}
      onSubmit={() => void submit()}
      isLoadingNextStep={running}
      submitButtonText="Create trail"
      steps={[
        {
          title: "Attributes",
          description: "Where the trail delivers to, and how.",
          content: (
            <SpaceBetween size="l">
              <Container header={<Header variant="h2">General</Header>}>
                <MainFields form={form} errors={attempted ? errors : {}} onChange={setForm} />
              </Container>
              <Container header={<Header variant="h2">Log files</Header>}>
                <AdvancedFields form={form} errors={attempted ? errors : {}} onChange={setForm} />
              </Container>
            </SpaceBetween>
          ),
        },
        { title: "Events", description: "What the trail delivers.", content: <SelectionFields selection={selection} onChange={setSelection} problem={attempted ? selectionError(selection) : null} /> },
        {
          title: "Review",
          content: (
            <SpaceBetween size="l">
              <Review form={form} selection={selection} />
              <Problem error={error} what="The trail could not be created" />
              {(running || results.length > 0) && (
                <Container header={<Header variant="h2">Progress</Header>}>
                  <StepList steps={steps} results={results} running={running} />
                </Container>
              )}
            </SpaceBetween>
          ),
        },
      ]}
    />
  );
}

function selectorSteps(selection: Selection): NamedStep[] {
  return [
    ...(needsSelectors(selection) ? [{ id: "events", text: "Select events" }] : []),
    ...(insightSelectors(selection).length ? [{ id: "insights", text: "Select insights" }] : []),
  ];
}

async function apply(id: string, form: Form, selection: Selection): Promise<Result> {
  try {
    if (id === "events") await post("aws/PutEventSelectors", { TrailName: form.name, EventSelectors: eventSelectors(selection) });
    else await post("aws/PutInsightSelectors", { TrailName: form.name, InsightSelectors: insightSelectors(selection) });
    return { done: true, error: null };
  } catch (failure) {
    const { code, message } = asApiError(failure);
    return { done: false, error: { code, message } };
  }
}

function Review({ form, selection }: { form: Form; selection: Selection }): ReactNode {
  const [tab, setTab] = useState("cli");
  const texts = { cli: asCommands(form, selection), terraform: asTerraform(form, selection) };
  return (
    <SpaceBetween size="l">
      <Container
        header={
          <Header variant="h2" description={`To ${form.createBucket ? "new" : "existing"} bucket ${visible(form.bucket)}, log file validation ${form.validation ? "on" : "off"}`}>
            Trail {visible(form.name)}
          </Header>
        }
      >
        <ColumnLayout columns={2}>
          <Points title="It delivers" items={delivered(form, selection)} />
          <Points title="It does not deliver" items={notDelivered(form, selection)} />
        </ColumnLayout>
      </Container>
      <Container header={<Header variant="h2">The same as code</Header>}>
        <Tabs
          activeTabId={tab}
          onChange={({ detail }) => setTab(detail.activeTabId)}
          tabs={(["cli", "terraform"] as const).map((id) => ({
            id,
            label: id === "cli" ? "AWS CLI" : "Terraform",
            content: (
              <SpaceBetween size="xs">
                <Copy label="Copy" text={() => texts[id]}>
                  Copy
                </Copy>
                <pre className="json" tabIndex={0}>
                  {texts[id].split("\n").map(visible).join("\n")}
                </pre>
              </SpaceBetween>
            ),
          }))}
        />
      </Container>
      <Box>
        <Button variant="inline-link" onClick={() => navigate(href("/turn-on"))}>
          Use the short form instead
        </Button>
      </Box>
    </SpaceBetween>
  );
}

function Points({ title, items }: { title: string; items: string[] }): ReactNode {
  return (
    <div>
      <Box variant="h3">{title}</Box>
      <ul>
        {items.map((item) => (
          <li key={item}>{item}</li>
        ))}
      </ul>
    </div>
  );
}
