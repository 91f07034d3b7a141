import Box from "@cloudscape-design/components/box";
import Button from "@cloudscape-design/components/button";
import ColumnLayout from "@cloudscape-design/components/column-layout";
import Container from "@cloudscape-design/components/container";
import Header from "@cloudscape-design/components/header";
import Input from "@cloudscape-design/components/input";
import KeyValuePairs from "@cloudscape-design/components/key-value-pairs";
import Link from "@cloudscape-design/components/link";
import SpaceBetween from "@cloudscape-design/components/space-between";
import Spinner from "@cloudscape-design/components/spinner";
import Table from "@cloudscape-design/components/table";
import { type ReactNode, useState } from "react";
import { get } from "../api/client";
import { TEMPORARY } from "../api/origins";
import type { Principal, PrincipalList, ListedPrincipal } from "../api/types";
import { useCall } from "../api/useCall";
import { useCalm } from "../app/calm";
import { useNarrow } from "../app/narrow";
import { usePreferences } from "../app/preferences";
import { follow, href, navigate, useQuery, useRoute } from "../app/router";
import { atLeast, useSession } from "../app/session";
import { allOf, comparison } from "../filter/expression";
import { ValueList } from "../parts/ValueList";
import { CallerChain } from "../parts/CallerChain";
import { EventList } from "../parts/EventList";
import { LifeStory } from "../parts/LifeStory";
import { Problem } from "../parts/Problem";
import { ago, number, stamp, zoneName } from "../text/time";
import { capitalized, show, visible } from "../text/visible";

export default function Principals(): ReactNode {
  const [arn] = useQuery("arn");
  return arn === null ? <List /> : <Story arn={arn} />;
}

function List(): ReactNode {
  const { zone } = usePreferences();
  const { query } = useRoute();
  const [text, setText] = useState("");
  const asked = useCalm(text.trim(), 200);
  const scope = { account: query.get("account"), region: query.get("region"), categories: "all" };
  const { data, error, loading, reload } = useCall(
    (signal) => get<PrincipalList>("principals", { ...scope, text: asked || null, limit: 100 }, signal),
    [asked, scope.account, scope.region],
  );
  const isEmpty = data && !loading && !error;
  const isFiltered = asked || scope.account || scope.region;
  const narrow = useNarrow();
  const open = (): void => {
    if (text.startsWith("arn:")) navigate(href("/principals", { arn: text.trim() }));
  };
  const time = (moment: string): ReactNode => (
    <span className="numbers" title={ago(moment)}>
      {stamp(moment, zone)}
    </span>
  );
  return (
    <SpaceBetween size="m">
      <Problem error={error} what="Principals could not be loaded" onRetry={reload} />
      <Table
        items={data?.principals ?? []}
        variant="full-page"
        contentDensity="compact"
        loading={loading && !data}
        loadingText="Loading principals"
        trackBy="arn"
        wrapLines
        visibleColumns={narrow ? ["name", "last"] : undefined}
        ariaLabels={{ tableLabel: "Principals" }}
        header={
          <Header variant="h1" counter={data ? `(${number(data.principals.length)}${data.complete ? "" : "+"})` : undefined} description="Users, roles and sessions, by their last call.">
            Principals
          </Header>
        }
        filter={
          <Input type="search" ariaLabel="Filter principals" value={text} placeholder="Any part of a name or ARN" autoFocus onChange={({ detail }) => setText(detail.value)} onKeyDown={({ detail }) => detail.key === "Enter" && open()} />
        }
        columnDefinitions={[
          {
            id: "name",
            header: "Name",
            isRowHeader: true,
            cell: ({ arn, name }: ListedPrincipal) => (
              <span title={visible(arn)}>
                <Link href={href("/principals", { arn })} onFollow={follow}>
                  <span className="wrap">{visible(name)}</span>
                </Link>
              </span>
            ),
          },
          { id: "kind", header: "Kind", cell: ({ kind }) => show(kind), width: 140 },
          { id: "account", header: "Account", cell: ({ account }) => show(account), width: 140 },
          { id: "last", header: `Last call (${zoneName(zone)})`, cell: ({ last }) => time(last), width: 190 },
          { id: "events", header: "Calls", cell: ({ events }) => number(events), width: 100 },
          { id: "failed", header: "Failed", cell: ({ failed }) => (failed ? number(failed) : "–"), width: 100 },
          { id: "first", header: `First call (${zoneName(zone)})`, cell: ({ first }) => time(first), width: 190 },
        ]}
        empty={isEmpty && <Box color="text-body-secondary">{isFiltered ? "No principals match." : "No principal has called yet."}</Box>}
      />
    </SpaceBetween>
  );
}

function Story({ arn }: { arn: string }): ReactNode {
  const { zone } = usePreferences();
  const { data, error, loading, reload } = useCall((signal) => get<Principal>(`principals/${encodeURIComponent(arn)}`, {}, signal), [arn]);
  const session = useSession();
  const latest = data?.latest[0];
  const mine = comparison("arn", arn);
  const open = (field: string) => (value: string) =>
    navigate(href("/events", { expression: allOf(mine, comparison(field, value)), categories: "all" }));
  return (
    <SpaceBetween size="l">
      <Header
        variant="h1"
        description={<span className="wrap">{visible(arn)}</span>}
        actions={
          <SpaceBetween direction="horizontal" size="xs">
            <Button href={href("/timeline", { name: arn })} onFollow={follow}>
              Timeline
            </Button>
            {atLeast(session, "auditor") && (
              <Button href={href("/policy", { principal: roleOf(arn) })} onFollow={follow}>
                Least privilege
              </Button>
            )}
            <Button href={href("/events", { expression: mine, categories: "all" })} onFollow={follow} variant="primary">
              All events
            </Button>
          </SpaceBetween>
        }
      >
        <span className="wrap">{visible(data ? capitalized(data.sentence) : (arn.split("/").at(-1) ?? arn))}</span>
      </Header>
      <Problem error={error} what={error?.status === 404 ? "This principal made no call" : "The principal could not be loaded"} onRetry={reload} />
      {loading && !data && <Spinner />}
      {data && (
        <SpaceBetween size="l">
          <LifeStory story={data.story} />
          {latest && TEMPORARY.has(latest.principalType ?? "") && (
            <Container header={<Header variant="h2">Latest call</Header>}>
              <CallerChain event={latest} />
            </Container>
          )}
          <Container>
            <KeyValuePairs
              columns={3}
              items={[
                { label: `First call (${zoneName(zone)})`, value: stamp(data.first, zone) },
                { label: `Last call (${zoneName(zone)})`, value: stamp(data.last, zone) },
                { label: "Events", value: number(data.events) },
              ]}
            />
          </Container>
          <Container header={<Header variant="h2">Calls by weekday and hour (UTC)</Header>}>
            <Heat hours={data.hours} />
          </Container>
          <ColumnLayout columns={4} minColumnWidth={220}>
            {(
              [
                ["Services", data.services, "eventSource"],
                ["Source IP addresses", data.ips, "sourceIPAddress"],
                ["Access keys", data.keys, "accessKeyId"],
                [
                  data.agentsOf < data.events ? `User agents of the newest ${number(data.agentsOf)} events` : "User agents",
                  data.agents,
                  "userAgent",
                ],
              ] as const
            ).map(([title, values, field]) => (
              <div key={field}>
                <Box variant="h3">{title}</Box>
                <ValueList values={values.slice(0, 8)} onPick={open(field)} />
              </div>
            ))}
          </ColumnLayout>
          <Container header={<Header variant="h2">Latest events</Header>}>
            <EventList label="Latest events" items={data.latest} />
          </Container>
        </SpaceBetween>
      )}
    </SpaceBetween>
  );
}

/** For a session the name of its role, whose policies apply to it; otherwise the ARN. */
function roleOf(arn: string): string {
  return /^arn:[^:]+:sts::\d*:assumed-role\/([^/]+)\//.exec(arn)?.[1] ?? arn;
}

const DAYS = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"];

function Heat({ hours }: { hours: number[][] }): ReactNode {
  const most = Math.max(...hours.flat(), 1);
  return (
    <table className="heat">
      <thead>
        <tr>
          <th scope="col">
            <span className="hidden">Weekday</span>
          </th>
          {Array.from({ length: 24 }, (_, hour) => (
            <th scope="col" key={hour}>
              {hour % 3 === 0 ? hour : <span className="hidden">{hour}</span>}
            </th>
          ))}
        </tr>
      </thead>
      <tbody>
        {DAYS.map((day, index) => (
          <tr key={day}>
            <th scope="row">{day}</th>
            {Array.from({ length: 24 }, (_, hour) => {
              const count = hours[index]?.[hour] ?? 0;
              return (
                <td key={hour} title={`${day} ${hour}:00 – ${number(count)} calls`}>
                  {count > 0 && (
                    <span style={{ opacity: 0.2 + (0.8 * count) / most }}>
                      <span className="hidden">{count}</span>
                    </span>
                  )}
                </td>
              );
            })}
          </tr>
        ))}
      </tbody>
    </table>
  );
}
