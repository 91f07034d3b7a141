import Alert from "@cloudscape-design/components/alert";
import Button from "@cloudscape-design/components/button";
import Container from "@cloudscape-design/components/container";
import ContentLayout from "@cloudscape-design/components/content-layout";
import ExpandableSection from "@cloudscape-design/components/expandable-section";
import FormLayout from "@cloudscape-design/components/form";
import Header from "@cloudscape-design/components/header";
import SpaceBetween from "@cloudscape-design/components/space-between";
import { type ReactNode, useRef, useState } from "react";
import type { ApiError } from "../api/client";
import { postLines } from "../api/client";
import type { Step, TurnOn as Request } from "../api/types";
import { asApiError } from "../api/useCall";
import { follow, href, navigate } from "../app/router";
import { Problem } from "../parts/Problem";
import { type NamedStep, StepList } from "../parts/StepList";
import { AdvancedFields, MainFields } from "../parts/TrailFields";
import { errorsOf, type Form, request, START } from "./turnOn";

export function stepsOf(asked: Request): NamedStep[] {
  return [
    { id: "bucket", text: asked.createBucket ? `Create S3 bucket ${asked.bucket}` : `Find S3 bucket ${asked.bucket}` },
    { id: "policy", text: "Let CloudTrail write to the bucket" },
    ...(asked.topic && asked.createTopic ? [{ id: "topic", text: `Prepare SNS topic ${asked.topic}` }] : []),
    { id: "trail", text: `Create trail ${asked.name}` },
    { id: "logging", text: "Start logging" },
  ];
}

/** Three answers turn CloudTrail on; everything else has a default. */
export default function TurnOn(): ReactNode {
  const [form, setForm] = useState<Form>(START);
  const [attempted, setAttempted] = useState(false);
  const [advanced, setAdvanced] = useState(false);
  const [results, setResults] = useState<Step[]>([]);
  const [error, setError] = useState<ApiError | null>(null);
  const [running, setRunning] = useState(false);
  const isBusy = useRef(false);
  const errors = errorsOf(form);
  const shown = attempted ? errors : {};
  const asked = request(form);
  const steps = stepsOf(asked);

  const turnOn = async (): Promise<void> => {
    setAttempted(true);
    if (errors.prefix || errors.kmsKey || errors.topic) setAdvanced(true);
    if (isBusy.current || Object.keys(errors).length) return;
    isBusy.current = true;
    setRunning(true);
    setResults([]);
    setError(null);
    const done: Step[] = [];
    try {
      for await (const step of postLines<Step>("turn-on", asked)) {
        done.push(step);
        setResults([...done]);
      }
      if (done.length && done.every((step) => step.done)) navigate(href("/activity", { trail: asked.name }));
    } catch (failure) {
      setError(asApiError(failure));
    } finally {
      isBusy.current = false;
      setRunning(false);
    }
  };
  const failed = results.find((step) => step.error);

  return (
    <ContentLayout
      header={
        <Header variant="h1" description="CloudTrail records the calls of your account and delivers them to an S3 bucket.">
          Turn On CloudTrail
        </Header>
      }
    >
      <form onSubmit={(event) => (event.preventDefault(), void turnOn())}>
        <FormLayout
          actions={
            <SpaceBetween direction="horizontal" size="xs">
              <Button variant="link" href={href("/trails")} onFollow={follow}>
                Cancel
              </Button>
              <Button variant="primary" formAction="submit" loading={running} loadingText="Turning on">
                Turn On
              </Button>
            </SpaceBetween>
          }
        >
          <SpaceBetween size="l">
            <Container>
              <SpaceBetween size="l">
                <MainFields form={form} errors={shown} onChange={setForm} />
                <ExpandableSection headerText="Advanced" expanded={advanced} onChange={({ detail }) => setAdvanced(detail.expanded)}>
                  <AdvancedFields form={form} errors={shown} onChange={setForm} />
                </ExpandableSection>
              </SpaceBetween>
            </Container>
            <Problem error={error} what="CloudTrail could not be turned on" />
            {(running || results.length > 0) && (
              <Container header={<Header variant="h2">Progress</Header>}>
                <StepList steps={steps} results={results} running={running} />
              </Container>
            )}
            {failed && (
              <Alert type="error" header="CloudTrail is not on yet">
                The step that failed is marked above. Correct the cause and choose Turn On again; steps that are done are not
                repeated.
              </Alert>
            )}
          </SpaceBetween>
        </FormLayout>
      </form>
    </ContentLayout>
  );
}
