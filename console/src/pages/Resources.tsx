import Box from "@cloudscape-design/components/box";
import Button from "@cloudscape-design/components/button";
import Container from "@cloudscape-design/components/container";
import Header from "@cloudscape-design/components/header";
import Input from "@cloudscape-design/components/input";
import Link from "@cloudscape-design/components/link";
import Select from "@cloudscape-design/components/select";
import SpaceBetween from "@cloudscape-design/components/space-between";
import Spinner from "@cloudscape-design/components/spinner";
import Table from "@cloudscape-design/components/table";
import { type ReactNode, useState } from "react";
import { get } from "../api/client";
import type { ResourceList, ListedResource, ResourceStory, ValueCount } from "../api/types";
import { useCall } from "../api/useCall";
import { useCalm } from "../app/calm";
import { useNarrow } from "../app/narrow";
import { usePreferences } from "../app/preferences";
import { follow, href, navigate, useRoute } from "../app/router";
import { comparison } from "../filter/expression";
import { EventList } from "../parts/EventList";
import { LifeStory } from "../parts/LifeStory";
import { Problem } from "../parts/Problem";
import { ago, number, stamp, zoneName } from "../text/time";
import { show, visible } from "../text/visible";

export default function Resources(): ReactNode {
  const { query } = useRoute();
  const name = query.get("name");
  return name === null ? <List /> : <Story name={name} type={query.get("type")} />;
}

const ANY_TYPE = "";

function List(): ReactNode {
  const [text, setText] = useState("");
  const [type, setType] = useState(ANY_TYPE);
  const asked = useCalm(text.trim(), 200);
  const { query } = useRoute();
  const scope = { account: query.get("account"), region: query.get("region"), categories: "all" };
  const places = [scope.account, scope.region];
  const { data, error, loading, reload } = useCall(
    (signal) => get<ResourceList>("resources/list", { ...scope, text: asked || null, type: type || null }, signal),
    [asked, type, ...places],
  );
  const isEmpty = data && !loading && !error;
  const isFiltered = asked || type || scope.account || scope.region;
  const types = useCall((signal) => get<{ values: ValueCount[] }>("values", { ...scope, field: "resourceType" }, signal), places);
  const { zone } = usePreferences();
  const narrow = useNarrow();
  const open = (): void => {
    if (text.trim()) navigate(href("/resources", { name: text.trim() }));
  };
  const options = [{ value: ANY_TYPE, label: "Any type" }, ...(types.data?.values ?? []).map(({ value, count }) => ({ value, label: visible(value), tags: [number(count)] }))];
  return (
    <SpaceBetween size="m">
      <Problem error={error} what="Resources could not be loaded" onRetry={reload} />
      <Table
        items={data?.resources ?? []}
        variant="full-page"
        contentDensity="compact"
        loading={loading && !data}
        loadingText="Loading resources"
        trackBy={({ type, name }) => `${type} ${name}`}
        wrapLines
        visibleColumns={narrow ? ["name", "latest"] : undefined}
        ariaLabels={{ tableLabel: "Resources" }}
        header={
          <Header
            variant="h1"
            counter={data ? `(${number(data.resources.length)}${data.complete ? "" : "+"})` : undefined}
            description="Created, changed or deleted resources, in order of the newest event. Enter opens a name."
          >
            Resources
          </Header>
        }
        filter={
          <div className="toolbar">
            <div className="grow">
              <Input type="search" ariaLabel="Filter resources" value={text} placeholder="Any part of a name or ARN" autoFocus onChange={({ detail }) => setText(detail.value)} onKeyDown={({ detail }) => detail.key === "Enter" && open()} />
            </div>
            <Select
              ariaLabel="Type"
              options={options}
              selectedOption={options.find(({ value }) => value === type) ?? null}
              filteringType="auto"
              onChange={({ detail }) => setType(detail.selectedOption.value ?? ANY_TYPE)}
            />
          </div>
        }
        columnDefinitions={[
          {
            id: "name",
            header: "Name",
            isRowHeader: true,
            cell: ({ name, type, aliases }: ListedResource) => (
              <span title={[name, ...aliases].map(visible).join("\n")}>
                <Link href={href("/resources", { name, ...(type ? { type } : {}) })} onFollow={follow}>
                  <span className="wrap">{visible(name)}</span>
                </Link>
              </span>
            ),
            ...(!narrow && { width: 280 }),
          },
          { id: "type", header: "Type", cell: ({ type }) => show(type), width: 200 },
          { id: "events", header: "Events", cell: ({ events, counted }) => `${number(events ?? 0)}${counted ? "" : "+"}`, width: 100 },
          {
            id: "latest",
            header: "Newest event",
            cell: ({ latest }) => (
              <Link href={href(`/events/${encodeURIComponent(latest.eventId)}`)} onFollow={follow}>
                <span className="wrap">{visible(latest.parts.map(({ kind, text }) => (kind === "method" ? "" : text)).join(""))}</span>
              </Link>
            ),
            ...(!narrow && { minWidth: 320 }),
          },
          {
            id: "time",
            header: `Time (${zoneName(zone)})`,
            cell: ({ latest }) => (
              <span className="numbers" title={ago(latest.eventTime)}>
                {stamp(latest.eventTime, zone)}
              </span>
            ),
            width: 190,
          },
        ]}
        empty={isEmpty && <Box color="text-body-secondary">{isFiltered ? "No resources match." : "No recorded call has changed a resource yet."}</Box>}
      />
    </SpaceBetween>
  );
}

function Story({ name, type }: { name: string; type: string | null }): ReactNode {
  const { data, error, loading, reload } = useCall((signal) => get<ResourceStory>("resources", { name, type }, signal), [name, type]);
  return (
    <SpaceBetween size="l">
      <Header
        variant="h1"
        description={type ? visible(type) : undefined}
        actions={
          <SpaceBetween direction="horizontal" size="xs">
            <Button href={href("/timeline", { name, kind: "resource" })} onFollow={follow}>
              Timeline
            </Button>
            <Button variant="primary" href={href("/events", { expression: comparison("resourceName", name), categories: "all" })} onFollow={follow}>
              All events
            </Button>
          </SpaceBetween>
        }
      >
        <span className="wrap">{visible(name)}</span>
      </Header>
      <Problem error={error} what={error?.status === 404 ? "No event names this resource" : "The resource could not be loaded"} onRetry={reload} />
      {loading && !data && <Spinner />}
      {data && (
        <SpaceBetween size="l">
          <LifeStory story={data.story} />
          <Container header={<Header variant="h2" counter={`(${data.complete ? "" : "newest "}${data.events.length})`}>Evidence</Header>}>
            <EventList label="Events of the resource" items={data.events} />
          </Container>
        </SpaceBetween>
      )}
    </SpaceBetween>
  );
}
