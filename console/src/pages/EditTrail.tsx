import Button from "@cloudscape-design/components/button";
import Container from "@cloudscape-design/components/container";
import Form from "@cloudscape-design/components/form";
import Header from "@cloudscape-design/components/header";
import SpaceBetween from "@cloudscape-design/components/space-between";
import Spinner from "@cloudscape-design/components/spinner";
import { type ReactNode, useEffect, useRef, useState } from "react";
import { ApiError, get, post } from "../api/client";
import type { Step, TrailList } from "../api/types";
import { asApiError, useCall } from "../api/useCall";
import { follow, href, navigate, useQuery } from "../app/router";
import { EventFields } from "../parts/EventFields";
import { Problem } from "../parts/Problem";
import { StepList } from "../parts/StepList";
import { AdvancedFields, DestinationFields } from "../parts/TrailFields";
import { visible } from "../text/visible";
import { isComplete } from "./advancedSelectors";
import { changesOf, type Events, eventsError, eventsOf, formOf, type InsightSelector, type StoredSelectors, type StoredTrail } from "./trailChanges";
import { errorsOf, type Form as TrailForm } from "./turnOn";

interface StoredInsights {
  InsightSelectors: InsightSelector[];
}

interface Stored {
  arn: string;
  region: string;
  form: TrailForm;
  events: Events;
}

/** Changes a trail, and shows the calls that do so. */
export default function EditTrail(): ReactNode {
  const [name] = useQuery("name");
  const { data, error, reload } = useCall((signal) => load(name ?? "", signal), [name]);
  if (!data) {
    return (
      <SpaceBetween size="m">
        <Header variant="h1">Edit trail</Header>
        {error ? <Problem error={error} what="The trail could not be loaded" onRetry={reload} /> : <Spinner />}
      </SpaceBetween>
    );
  }
  return <Fields key={data.arn} stored={data} />;
}

async function load(name: string, signal: AbortSignal): Promise<Stored> {
  const { trails } = await get<TrailList>("trails", {}, signal);
  const trail = trails.find((other) => other.arn === name || other.name === name);
  if (!trail) throw new ApiError(404, "TrailNotFoundException", `there is no trail ${name}`);
  const region = { region: trail.homeRegion };
  const [settings, selectors, insights] = await Promise.all([
    post<{ Trail: StoredTrail }>("aws/GetTrail", { Name: trail.arn }, region, signal),
    post<StoredSelectors>("aws/GetEventSelectors", { TrailName: trail.arn }, region, signal),
    // GetInsightSelectors fails for a trail without Insights.
    trail.insights ? post<StoredInsights>("aws/GetInsightSelectors", { TrailName: trail.arn }, region, signal) : { InsightSelectors: [] },
  ]);
  return { arn: trail.arn, region: trail.homeRegion, form: formOf(settings.Trail), events: eventsOf(selectors, insights.InsightSelectors) };
}

function Fields({ stored }: { stored: Stored }): ReactNode {
  const [form, setForm] = useState(stored.form);
  const [events, setEvents] = useState(stored.events);
  const [results, setResults] = useState<Pick<Step, "done" | "error">[]>([]);
  const [running, setRunning] = useState(false);
  const [attempts, setAttempts] = useState(0);
  const [refusal, setRefusal] = useState<string | null>(null);
  const element = useRef<HTMLFormElement>(null);
  const errors = errorsOf(form);
  const problem = eventsError(events);
  const changes = changesOf(stored.arn, stored, { form, events });
  const back = href("/trails/view", { name: stored.arn });

  useEffect(() => element.current?.querySelector<HTMLElement>("[aria-invalid=true]")?.focus(), [attempts]);

  const save = async (): Promise<void> => {
    if (events.kind === "advanced" && !isComplete(events.advanced)) {
      setAttempts(attempts + 1);
      return;
    }
    setRunning(true);
    const done: Pick<Step, "done" | "error">[] = [];
    for (const { operation, input } of changes) {
      try {
        await post(`aws/${operation}`, input, { region: stored.region });
        done.push({ done: true, error: null });
      } catch (failure) {
        const { code, message } = asApiError(failure);
        if (operation === "PutEventSelectors") setRefusal(message);
        done.push({ done: false, error: { code, message } });
      }
      setResults([...done]);
      if (done.at(-1)?.error) break;
    }
    setRunning(false);
    if (done.every((result) => result.done)) navigate(back);
  };

  return (
    <form
      ref={element}
      onSubmit={(event) => {
        event.preventDefault();
        void save();
      }}
    >
      <Form
        header={<Header variant="h1">Edit trail {visible(form.name)}</Header>}
        actions={
          <SpaceBetween direction="horizontal" size="xs">
            <Button href={back} onFollow={follow} formAction="none">
              Cancel
            </Button>
            <Button variant="primary" loading={running} disabled={!changes.length || Object.keys(errors).length > 0 || Boolean(problem)}>
              Save changes
            </Button>
          </SpaceBetween>
        }
      >
        <SpaceBetween size="l">
          <Container header={<Header variant="h2">Log files</Header>}>
            <SpaceBetween size="l">
              <DestinationFields form={form} errors={errors} onChange={setForm} />
              <AdvancedFields form={form} errors={errors} onChange={setForm} />
            </SpaceBetween>
          </Container>
          <EventFields
            events={events}
            onChange={(changed) => {
              setEvents(changed);
              setRefusal(null);
            }}
            problem={problem}
            attempted={attempts > 0}
            refusal={refusal}
          />
          <Container header={<Header variant="h2" description="Each is recorded under your name.">Calls that are made</Header>}>
            {changes.length ? (
              <StepList steps={changes.map(({ operation, text }) => ({ id: operation, text: `${operation}: ${visible(text)}` }))} results={results} running={running} />
            ) : (
              "None: nothing was changed."
            )}
          </Container>
        </SpaceBetween>
      </Form>
    </form>
  );
}
