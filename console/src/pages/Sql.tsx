import Alert from "@cloudscape-design/components/alert";
import Box from "@cloudscape-design/components/box";
import Button from "@cloudscape-design/components/button";
import ExpandableSection from "@cloudscape-design/components/expandable-section";
import FormField from "@cloudscape-design/components/form-field";
import Header from "@cloudscape-design/components/header";
import ProgressBar from "@cloudscape-design/components/progress-bar";
import Select from "@cloudscape-design/components/select";
import SpaceBetween from "@cloudscape-design/components/space-between";
import Spinner from "@cloudscape-design/components/spinner";
import Table from "@cloudscape-design/components/table";
import { type ReactNode, type RefObject, useEffect, useRef, useState } from "react";
import { type ApiError, get, post } from "../api/client";
import type { QueryColumn, QueryPage, TableSummary, TablesAnswer } from "../api/types";
import { asApiError, type Call, useCall } from "../api/useCall";
import { changeQuery, currentQuery } from "../app/router";
import { csv, save } from "../parts/download";
import { Problem } from "../parts/Problem";
import { visible } from "../text/visible";
import { SqlEditor } from "./SqlEditor";
import samples from "./sampleQueries.json";
import { ACTIVITY } from "./sqlCompletion";

const FIRST = "SELECT eventTime, eventName, userIdentity.arn AS principal\nFROM event_history\nORDER BY eventTime DESC\nLIMIT 50";
/** Statements of this browser, the newest first. */
const RECENT_KEY = "opentrail.sql";
const MAX_RECENT = 20;
const PAGE = 1_000;
/** Rows of a download. */
const MAX_DOWNLOAD = 100_000;

interface Run {
  state: "idle" | "running" | "ended";
  page: QueryPage | null;
  error: ApiError | null;
}

const IDLE: Run = { state: "idle", page: null, error: null };

/** SQL over event history and event data stores. */
export default function Sql(): ReactNode {
  const [statement, setStatement] = useState(() => currentQuery().get("statement") ?? recent()[0] ?? FIRST);
  const [run, setRun] = useState<Run>(IDLE);
  const editor = useRef<HTMLTextAreaElement>(null);
  const stopped = useRef<AbortController | null>(null);
  const tables = useCall((signal) => get<TablesAnswer>("query-tables", {}, signal), []);
  useEffect(() => () => stopped.current?.abort(), []);

  async function start(): Promise<void> {
    stopped.current?.abort();
    const control = new AbortController();
    stopped.current = control;
    remember(statement);
    changeQuery({ statement: null }, { replace: true });
    setRun({ state: "running", page: null, error: null });
    try {
      // The first answer has the id, so that the query can be cancelled.
      let page = await post<QueryPage>("query", { statement, limit: PAGE, wait: 1 }, {}, control.signal);
      while (isRunning(page)) {
        setRun({ state: "running", page, error: null });
        page = await post<QueryPage>("query", { queryId: page.queryId, limit: PAGE, wait: 1 }, {}, control.signal);
      }
      setRun({ state: "ended", page, error: null });
    } catch (error) {
      if (!control.signal.aborted) setRun({ state: "ended", page: null, error: asApiError(error) });
    }
  }

  async function cancel(): Promise<void> {
    stopped.current?.abort();
    if (run.page) await post<QueryPage>("query", { queryId: run.page.queryId, cancel: true }).catch(() => null);
    setRun(IDLE);
  }

  const isBusy = run.state === "running";
  return (
    <SpaceBetween size="l">
      <Header variant="h1" description="SELECT statements over event history and event data stores, in Trino's dialect.">
        SQL
      </Header>
      <SpaceBetween size="s">
        <div className="toolbar">
          <div className="grow">
            <Chooser onChoose={setStatement} />
          </div>
        </div>
        <FormField label="Statement" constraintText="Press Ctrl+Enter to run it, and Ctrl+Space for suggestions." stretch>
          <SqlEditor statement={statement} onChange={setStatement} onRun={() => void start()} known={tables.data} editor={editor} />
        </FormField>
        <SpaceBetween size="xs" direction="horizontal">
          <Button variant="primary" disabled={!statement.trim() || isBusy} onClick={() => void start()}>
            Run
          </Button>
          <Button disabled={!isBusy} onClick={() => void cancel()}>
            Cancel
          </Button>
        </SpaceBetween>
        <Tables call={tables} />
      </SpaceBetween>
      {isBusy && <Running page={run.page} />}
      {run.error !== null && <Refusal error={run.error} statement={statement} editor={editor} />}
      {run.page && run.state === "ended" && <Result key={run.page.queryId} page={run.page} />}
    </SpaceBetween>
  );
}

function Running({ page }: { page: QueryPage | null }): ReactNode {
  return page === null || page.progress === null ? <Spinner /> : <ProgressBar value={page.progress} ariaLabel="Progress of the query" />;
}

function isRunning(page: QueryPage): boolean {
  return page.status === "QUEUED" || page.status === "RUNNING";
}

function recent(): string[] {
  try {
    const stored: unknown = JSON.parse(localStorage.getItem(RECENT_KEY) ?? "[]");
    return Array.isArray(stored) ? stored.filter((each) => typeof each === "string") : [];
  } catch {
    return [];
  }
}

function remember(statement: string): void {
  const all = [statement, ...recent().filter((each) => each !== statement)].slice(0, MAX_RECENT);
  try {
    localStorage.setItem(RECENT_KEY, JSON.stringify(all));
  } catch {
    // The browser stores nothing.
  }
}

function Chooser({ onChoose }: { onChoose: (statement: string) => void }): ReactNode {
  const own = recent();
  const options = [
    { label: "Samples", options: samples.map(({ name, description }) => ({ value: `sample ${name}`, label: description })) },
    { label: "Recent statements", options: own.map((statement, index) => ({ value: `recent ${index}`, label: visible(oneLine(statement)) })) },
  ].filter((group) => group.options.length);
  return (
    <Select
      placeholder="Samples and recent statements"
      ariaLabel="Samples and recent statements"
      selectedOption={null}
      options={options}
      filteringType="auto"
      onChange={({ detail }) => {
        const [kind, which] = (detail.selectedOption.value ?? "").split(" ", 2);
        const chosen = kind === "sample" ? samples.find(({ name }) => name === which)?.statement : own[Number(which)];
        if (chosen !== undefined) onChoose(chosen);
      }}
    />
  );
}

function oneLine(statement: string): string {
  const line = statement.replace(/\s+/g, " ").trim();
  return line.length > 100 ? `${line.slice(0, 100)}…` : line;
}

/** The tables, and the columns that they have. */
function Tables({ call }: { call: Call<TablesAnswer> }): ReactNode {
  const { data } = call;
  return (
    <ExpandableSection headerText="Tables and columns">
      <Problem error={call.error} what="The tables could not be loaded" onRetry={call.reload} />
      {data && (
        <SpaceBetween size="s">
          <ul className="tables">
            {data.tables.map((table) => (
              <li key={table.sql}>
                <code>{visible(table.sql)}</code> <span className="secondary wrap">{described(table)}</span>
              </li>
            ))}
          </ul>
          <Columns label="Columns" columns={data.columns} />
          {data.tables.some(({ category }) => category === ACTIVITY) && (
            <>
              <Box>Columns of stores with {ACTIVITY} events</Box>
              <Columns label={`Columns of ${ACTIVITY} events`} columns={data.activityColumns} />
            </>
          )}
        </SpaceBetween>
      )}
    </ExpandableSection>
  );
}

function Columns({ label, columns }: { label: string; columns: QueryColumn[] }): ReactNode {
  return (
    <ul className="columns" aria-label={label}>
      {columns.map(({ name, type }) => (
        <li key={name}>
          <code>{name}</code> <span className="secondary wrap">{type}</span>
        </li>
      ))}
    </ul>
  );
}

function described({ id, name, account, region, status, retentionDays }: TableSummary): string {
  if (id === null) return "Event history";
  const days = `${(retentionDays ?? 0).toLocaleString("en")} days`;
  const state = status.toLowerCase().replace("_", " ");
  return `Event data store ${visible(name)}: account ${account}, ${region}, ${days}, ${state}`;
}

interface RefusalProps {
  error: ApiError;
  statement: string;
  editor: RefObject<HTMLTextAreaElement | null>;
}

/** An error; a refused statement has the place of its error, which the editor selects. */
function Refusal({ error, statement, editor }: RefusalProps): ReactNode {
  const message = error.code === "InvalidQueryStatementException" ? error.message : null;
  const found = message?.match(/^line (\d+):(\d+): /);
  const offset = found ? offsetOf(statement, Number(found[1]), Number(found[2])) : null;
  useEffect(() => {
    if (offset === null || !editor.current) return;
    const word = /^[\w.]+/.exec(statement.slice(offset))?.[0].length ?? 1;
    editor.current.focus();
    editor.current.setSelectionRange(offset, offset + word);
    // Only a new error moves the selection.
  }, [error]);
  if (message === null) return <Problem error={error} what="The query could not run" />;
  return (
    <Alert type="error" header="The statement is not valid">
      <span className="wrap">{visible(message)}</span>
    </Alert>
  );
}

function offsetOf(statement: string, line: number, column: number): number {
  const before = statement.split("\n").slice(0, line - 1);
  return before.reduce((sum, each) => sum + each.length + 1, 0) + column - 1;
}

function Result({ page }: { page: QueryPage }): ReactNode {
  const [rows, setRows] = useState(page.rows);
  const [error, setError] = useState<ApiError | null>(null);
  const [loading, setLoading] = useState(false);
  if (page.status !== "FINISHED") {
    return (
      <Alert type="error" header={page.status === "CANCELLED" ? "The query was cancelled" : "The query failed"}>
        <span className="wrap">{visible(page.error ?? "")}</span>
      </Alert>
    );
  }

  async function upTo(count: number): Promise<(string | null)[][]> {
    const all = [...rows];
    while (all.length < Math.min(count, page.total)) {
      const more = await post<QueryPage>("query", { queryId: page.queryId, first: all.length, limit: PAGE });
      if (!more.rows.length) break;
      all.push(...more.rows);
    }
    return all;
  }

  async function load(count: number, use: (all: (string | null)[][]) => void): Promise<void> {
    setLoading(true);
    setError(null);
    try {
      const all = await upTo(count);
      setRows(all);
      use(all);
    } catch (problem) {
      setError(asApiError(problem));
    } finally {
      setLoading(false);
    }
  }

  const names = page.columns.map(({ name }) => name);
  const scanned = `${page.eventsScanned.toLocaleString("en")} events, ${(page.bytesScanned / 1e6).toLocaleString("en", { maximumFractionDigits: 1 })} MB read`;
  return (
    <SpaceBetween size="m">
      <Problem error={error} what="The rows could not be loaded" />
      <Chart page={page} rows={rows} />
      <Table
        variant="embedded"
        stripedRows
        wrapLines={false}
        resizableColumns
        header={
          <Header
            variant="h2"
            counter={`(${page.total.toLocaleString("en")})`}
            description={scanned}
            actions={
              <SpaceBetween size="xs" direction="horizontal">
                <Button
                  iconName="download"
                  loading={loading}
                  disabled={page.total > MAX_DOWNLOAD}
                  onClick={() => void load(MAX_DOWNLOAD, (all) => save("query.csv", "text/csv", csv([names, ...all])))}
                >
                  CSV
                </Button>
              </SpaceBetween>
            }
          >
            Result
          </Header>
        }
        ariaLabels={{ tableLabel: "Result" }}
        columnDefinitions={page.columns.map(({ name, type }, index) => ({
          id: `${index}`,
          header: <span title={type}>{visible(name)}</span>,
          cell: (row: (string | null)[]) => cell(row[index] ?? null),
          minWidth: 90,
        }))}
        items={rows}
        empty={<Box color="text-body-secondary">The result has no rows.</Box>}
        footer={
          rows.length < page.total && (
            <Button loading={loading} onClick={() => void load(rows.length + PAGE, () => undefined)}>
              {`More rows (${rows.length.toLocaleString("en")} of ${page.total.toLocaleString("en")})`}
            </Button>
          )
        }
      />
    </SpaceBetween>
  );
}

function cell(value: string | null): ReactNode {
  return value === null ? <span className="secondary">NULL</span> : <span className="wrap">{visible(value)}</span>;
}

const NUMBERS = /^(tinyint|smallint|integer|bigint|double|real|decimal)/;
const MAX_BARS = 30;

/** A bar per row, if a column names the rows and the last column is a number. */
function Chart({ page, rows }: { page: QueryPage; rows: (string | null)[][] }): ReactNode {
  const last = page.columns.length - 1;
  const kind = page.columns[last]?.type ?? "";
  if (last < 1 || !NUMBERS.test(kind) || rows.length < 2 || rows.length > MAX_BARS) return null;
  const values = rows.map((row) => Number(row[last] ?? 0));
  const most = Math.max(...values);
  if (!(most > 0) || values.some((value) => !(value >= 0))) return null;
  return (
    <ExpandableSection headerText="Chart" defaultExpanded>
      <ul className="bars" aria-label={`${page.columns[last]?.name} by ${page.columns[0]?.name}`}>
        {rows.map((row, index) => (
          <li key={index}>
            <span className="bar-name">{visible(row.slice(0, last).map((each) => each ?? "NULL").join(" · "))}</span>
            <span className="bar" style={{ inlineSize: `${(100 * (values[index] ?? 0)) / most}%` }} />
            <span>{row[last]}</span>
          </li>
        ))}
      </ul>
    </ExpandableSection>
  );
}
