import Box from "@cloudscape-design/components/box";
import Button from "@cloudscape-design/components/button";
import Container from "@cloudscape-design/components/container";
import FormField from "@cloudscape-design/components/form-field";
import Header from "@cloudscape-design/components/header";
import Input from "@cloudscape-design/components/input";
import Link from "@cloudscape-design/components/link";
import SpaceBetween from "@cloudscape-design/components/space-between";
import Spinner from "@cloudscape-design/components/spinner";
import Table from "@cloudscape-design/components/table";
import { type ReactNode, useState } from "react";
import { get } from "../api/client";
import { findResources } from "../api/resources";
import type { ResourceStory } from "../api/types";
import { useCall } from "../api/useCall";
import { useNarrow } from "../app/narrow";
import { usePreferences } from "../app/preferences";
import { follow, href, navigate, useRoute } from "../app/router";
import { comparison } from "../filter/expression";
import { EventList } from "../parts/EventList";
import { LifeStory } from "../parts/LifeStory";
import { Problem } from "../parts/Problem";
import { stamp, zoneName } from "../text/time";
import { show, visible } from "../text/visible";

export default function Resources(): ReactNode {
  const { query } = useRoute();
  const name = query.get("name");
  return name === null ? <List /> : <Story name={name} type={query.get("type")} />;
}

function List(): ReactNode {
  const [prefix, setPrefix] = useState("");
  const { data, error, loading, reload } = useCall((signal) => findResources(prefix.trim(), signal), [prefix]);
  const { zone } = usePreferences();
  const narrow = useNarrow();
  return (
    <SpaceBetween size="m">
      <Problem error={error} what="Resources could not be loaded" onRetry={reload} />
      <Table
        items={data ?? []}
        variant="full-page"
        loading={loading && !data}
        loadingText="Loading resources"
        trackBy={({ type, name }) => `${type} ${name}`}
        wrapLines
        visibleColumns={narrow ? ["name", "latest"] : undefined}
        ariaLabels={{ tableLabel: "Resources" }}
        header={
          <Header variant="h1" description="Who created, changed and deleted a resource? Enter its name or ARN.">
            Resources
          </Header>
        }
        filter={
          <form onSubmit={(event) => (event.preventDefault(), prefix.trim() && navigate(href("/resources", { name: prefix.trim() })))}>
            <div className="toolbar">
              <div className="grow">
                <FormField label="Name or ARN">
                  <Input type="search" value={prefix} placeholder="Mary" autoFocus onChange={({ detail }) => setPrefix(detail.value)} />
                </FormField>
              </div>
              <FormField label={<span>&nbsp;</span>}>
                <Button variant="primary" disabled={!prefix.trim()} formAction="submit">
                  Who?
                </Button>
              </FormField>
            </div>
          </form>
        }
        columnDefinitions={[
          {
            id: "name",
            header: "Resource",
            cell: ({ name, type, aliases }) => (
              <>
                <Link href={href("/resources", { name, ...(type ? { type } : {}) })} onFollow={follow}>
                  <span className="wrap">{visible(name)}</span>
                </Link>
                {aliases.map((alias) => (
                  <Box key={alias} variant="small" display="block">
                    <span className="wrap">{visible(alias)}</span>
                  </Box>
                ))}
              </>
            ),
            ...(!narrow && { width: 280 }),
          },
          { id: "type", header: "Type", cell: ({ type }) => show(type), width: 200 },
          { id: "latest", header: "Newest event", cell: ({ latest }) => <span className="wrap">{visible(latest.clause)}</span>, ...(!narrow && { width: 420 }) },
          { id: "time", header: `Time (${zoneName(zone)})`, cell: ({ latest }) => <span className="numbers">{stamp(latest.eventTime, zone)}</span>, width: 190 },
        ]}
        empty={<Box color="text-body-secondary">No resource whose name begins like this.</Box>}
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
