import Alert from "@cloudscape-design/components/alert";
import Button from "@cloudscape-design/components/button";
import Container from "@cloudscape-design/components/container";
import Form from "@cloudscape-design/components/form";
import FormField from "@cloudscape-design/components/form-field";
import Header from "@cloudscape-design/components/header";
import Input from "@cloudscape-design/components/input";
import SpaceBetween from "@cloudscape-design/components/space-between";
import Spinner from "@cloudscape-design/components/spinner";
import { type ReactNode, useEffect, useRef, useState } from "react";
import { ApiError, get, post } from "../api/client";
import type { StoreList, StoreSummary } from "../api/types";
import { asApiError, useCall } from "../api/useCall";
import { currentPath, follow, href, navigate, useQuery } from "../app/router";
import { AdvancedSelectorFields } from "../parts/AdvancedSelectorFields";
import { Problem } from "../parts/Problem";
import { SelectorPreview, usePreview } from "../parts/SelectorPreview";
import { YesNo } from "../parts/TrailFields";
import { visible } from "../text/visible";
import { type AdvancedEventSelector, type AdvancedSelector, fromApi, isComplete, toApi } from "./advancedSelectors";

/** A store in the form. */
export interface StoreForm {
  name: string;
  days: string;
  allRegions: boolean;
  isProtected: boolean;
  selectors: AdvancedSelector[];
}

const START: StoreForm = {
  name: "",
  days: "366",
  allRegions: true,
  isProtected: true,
  selectors: [{ name: "Management events", category: "Management", conditions: [] }],
};

/** Creates an event data store, or changes the one in the address. */
export default function EditStore(): ReactNode {
  const [arn] = useQuery("arn");
  const isNew = currentPath() === "/stores/create";
  const { data, error, reload } = useCall(isNew ? null : (signal) => load(arn ?? "", signal), [arn, isNew]);
  if (isNew) return <Fields stored={null} />;
  if (data) return <Fields key={data.arn} stored={data} />;
  return (
    <SpaceBetween size="m">
      <Header variant="h1">Edit event data store</Header>
      {error ? <Problem error={error} what="The event data store could not be loaded" onRetry={reload} /> : <Spinner />}
    </SpaceBetween>
  );
}

async function load(arn: string, signal: AbortSignal): Promise<StoreSummary> {
  const { stores } = await get<StoreList>("stores", {}, signal);
  const store = stores.find((other) => other.arn === arn);
  if (!store) throw new ApiError(404, "EventDataStoreNotFoundException", `there is no event data store ${arn}`);
  return store;
}

function formOf(store: StoreSummary): StoreForm {
  return {
    name: store.name,
    days: String(store.retentionDays),
    allRegions: store.multiRegion,
    isProtected: store.terminationProtection,
    selectors: (store.selectors as unknown as AdvancedEventSelector[]).map(fromApi),
  };
}

/** The settings as members of CreateEventDataStore; of an existing store, only changed ones. */
export function settingsOf(form: StoreForm, before: StoreForm | null): Record<string, unknown> {
  const members = ({ name, days, allRegions, isProtected, selectors }: StoreForm): Record<string, unknown> => ({
    Name: name,
    RetentionPeriod: Number(days),
    MultiRegionEnabled: allRegions,
    TerminationProtectionEnabled: isProtected,
    AdvancedEventSelectors: selectors.map(toApi),
  });
  const old = before ? members(before) : {};
  return Object.fromEntries(Object.entries(members(form)).filter(([name, value]) => JSON.stringify(old[name]) !== JSON.stringify(value)));
}

function Fields({ stored }: { stored: StoreSummary | null }): ReactNode {
  const [before] = useState(stored && formOf(stored));
  const [form, setForm] = useState(before ?? START);
  const [error, setError] = useState<ApiError | null>(null);
  const [running, setRunning] = useState(false);
  const [attempts, setAttempts] = useState(0);
  const element = useRef<HTMLFormElement>(null);
  const set = (part: Partial<StoreForm>): void => {
    setForm({ ...form, ...part });
    setError(null);
  };
  const settings = settingsOf(form, before);
  const isWhole = /^\d+$/.test(form.days);
  const complete = form.selectors.length > 0 && isComplete(form.selectors);
  const preview = usePreview(complete ? { AdvancedEventSelectors: form.selectors.map(toApi) } : null, "stores/preview");
  const refused = [error, preview.error].find((each) => each?.code === "InvalidEventSelectorsException");
  const back = stored ? href("/stores/view", { arn: stored.arn }) : href("/stores");

  useEffect(() => element.current?.querySelector<HTMLElement>("[aria-invalid=true]")?.focus(), [attempts]);

  const save = async (): Promise<void> => {
    if (!complete || !isWhole) {
      setAttempts(attempts + 1);
      return;
    }
    setRunning(true);
    setError(null);
    try {
      if (stored) await post("aws/UpdateEventDataStore", { EventDataStore: stored.arn, ...settings }, { region: stored.region });
      const created = stored ? null : await post<{ EventDataStoreArn: string }>("aws/CreateEventDataStore", settings);
      navigate(created ? href("/stores/view", { arn: created.EventDataStoreArn }) : back);
    } catch (failure) {
      setError(asApiError(failure));
      setRunning(false);
    }
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
        header={<Header variant="h1">{stored ? `Edit event data store ${visible(stored.name)}` : "Create event data store"}</Header>}
        actions={
          <SpaceBetween direction="horizontal" size="xs">
            <Button href={back} onFollow={follow} formAction="none">
              Cancel
            </Button>
            <Button variant="primary" loading={running} disabled={!Object.keys(settings).length}>
              {stored ? "Save changes" : "Create event data store"}
            </Button>
          </SpaceBetween>
        }
      >
        <SpaceBetween size="l">
          <Container header={<Header variant="h2">Settings</Header>}>
            <SpaceBetween size="l">
              <FormField label="Name" constraintText="3 to 128 letters, digits, periods, underscores and hyphens.">
                <Input value={form.name} placeholder="my-store" autoFocus={!stored} onChange={({ detail }) => set({ name: detail.value })} />
              </FormField>
              <FormField label="Retention in days" constraintText="7 to 3,653. An event expires once its eventTime is older than this." errorText={attempts > 0 && !isWhole ? "Enter a whole number of days." : null}>
                <Input value={form.days} inputMode="numeric" onChange={({ detail }) => set({ days: detail.value })} />
              </FormField>
              <YesNo label="Events of all Regions" value={form.allRegions} onChange={(allRegions) => set({ allRegions })} />
              <YesNo
                label="Termination protection"
                value={form.isProtected}
                onChange={(isProtected) => set({ isProtected })}
                description="Nobody can delete the store while it is protected."
              />
            </SpaceBetween>
          </Container>
          <Header variant="h2" description={`${stored ? "Changed selectors apply to later events. " : ""}An event is kept if it matches all conditions of any selector.`}>
            Events
          </Header>
          {!form.selectors.length && <Alert type="error">Add a selector: the store would have no events.</Alert>}
          <AdvancedSelectorFields
            owner="event data store"
            selectors={form.selectors}
            onChange={(selectors) => set({ selectors })}
            attempted={attempts > 0}
            refusal={refused?.message ?? null}
          />
          <SelectorPreview {...preview} />
          <Problem error={error} what={stored ? "The event data store was not changed" : "The event data store was not created"} />
        </SpaceBetween>
      </Form>
    </form>
  );
}
