import Alert from "@cloudscape-design/components/alert";
import Box from "@cloudscape-design/components/box";
import Button from "@cloudscape-design/components/button";
import ExpandableSection from "@cloudscape-design/components/expandable-section";
import FormField from "@cloudscape-design/components/form-field";
import Header from "@cloudscape-design/components/header";
import Link from "@cloudscape-design/components/link";
import ProgressBar from "@cloudscape-design/components/progress-bar";
import Select from "@cloudscape-design/components/select";
import SpaceBetween from "@cloudscape-design/components/space-between";
import Spinner from "@cloudscape-design/components/spinner";
import Table from "@cloudscape-design/components/table";
import { type ReactNode, type RefObject, useEffect, useRef, useState } from "react";
import { type ApiError, get, post } from "../api/client";
import type { QueryColumn, QueryHistory, QueryPage, QuerySummary, TableSummary, TablesAnswer } from "../api/types";
import { asApiError, type Call, useCall } from "../api/useCall";
import { usePreferences } from "../app/preferences";
import { changeQuery, currentQuery } from "../app/router";
import { csv, save } from "../parts/download";
import { Problem } from "../parts/Problem";
import ViewMenu from "../parts/ViewMenu";
import { stamp } from "../text/time";
import { oneLine, visible } from "../text/visible";
import { SqlEditor } from "./SqlEditor";
import samples from "./sampleQueries.json";
import { ACTIVITY } from "./sqlCompletion";

const FIRST = "SELECT eventTime, eventName, userIdentity.arn AS principal\nFROM event_history\nORDER BY eventTime DESC\nLIMIT 50";
/** Characters of a statement that stays in the page's address. */
const MAX_IN_ADDRESS = 2_000;
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
  const [statement, setStatement] = useState(() => currentQuery().get("statement") ?? FIRST);
  const [run, setRun] = useState<Run>(IDLE);
  const editor = useRef<HTMLTextAreaElement>(null);
  const stopped = useRef<AbortController | null>(null);
  const { zone } = usePreferences();
  const history = useCall((signal) => get<QueryHistory>("query-history", {}, signal), []);
  const tables = useCall((signal) => get<TablesAnswer>("query-tables", {}, signal), []);
  useEffect(() => () => stopped.current?.abort(), []);

  /** Follows a query to its end: a new one, or one of the history. */
  async function follow(query: { statement: string } | { queryId: string }): Promise<void> {
    stopped.current?.abort();
    const control = new AbortController();
    stopped.current = control;
    setRun({ state: "running", page: null, error: null });
    try {
      // The first answer has the id, so that the query can be cancelled.
      let page = await post<QueryPage>("query", { ...query, limit: PAGE, wait: 1 }, {}, control.signal);
      while (isRunning(page)) {
        setRun({ state: "running", page, error: null });
        page = await post<QueryPage>("query", { queryId: page.queryId, limit: PAGE, wait: 1 }, {}, control.signal);
      }
      setRun({ state: "ended", page, error: null });
    } catch (error) {
      if (!control.signal.aborted) setRun({ state: "ended", page: null, error: asApiError(error) });
    }
    history.reload();
  }

  function start(): void {
    changeQuery({ statement: statement.length <= MAX_IN_ADDRESS ? statement : null }, { replace: true });
    void follow({ statement });
  }

  async function cancel(): Promise<void> {
    stopped.current?.abort();
    if (run.page) await post<QueryPage>("query", { queryId: run.page.queryId, cancel: true }).catch(() => null);
    setRun(IDLE);
    history.reload();
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
            <Samples onChoose={setStatement} />
          </div>
          <ViewMenu state={{ statement }} zone={zone} onOpen={(view) => setStatement(view.statement ?? "")} />
        </div>
        <FormField label="Statement" constraintText="Press Ctrl+Enter to run it, and Ctrl+Space for suggestions." stretch>
          <SqlEditor statement={statement} onChange={setStatement} onRun={start} known={tables.data} editor={editor} />
        </FormField>
        <SpaceBetween size="xs" direction="horizontal">
          <Button variant="primary" disabled={!statement.trim() || isBusy} onClick={start}>
            Run
          </Button>
          <Button disabled={!isBusy} onClick={() => void cancel()}>
            Cancel
          </Button>
        </SpaceBetween>
        <Tables call={tables} />
        <History
          call={history}
          zone={zone}
          onChoose={(query) => {
            setStatement(query.statement);
            void follow({ queryId: query.queryId });
          }}
        />
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

function Samples({ onChoose }: { onChoose: (statement: string) => void }): ReactNode {
  return (
    <Select
      placeholder="Sample queries"
      ariaLabel="Sample queries"
      selectedOption={null}
      options={samples.map(({ name, description }) => ({ value: name, label: description }))}
      filteringType="auto"
      onChange={({ detail }) => {
        const chosen = samples.find(({ name }) => name === detail.selectedOption.value);
        if (chosen) onChoose(chosen.statement);
      }}
    />
  );
}

interface HistoryProps {
  call: Call<QueryHistory>;
  zone: string;
  onChoose: (query: QuerySummary) => void;
}

/** The user's queries; a click shows the statement and the result again. */
function History({ call, zone, onChoose }: HistoryProps): ReactNode {
  const queries = call.data?.queries ?? [];
  return (
    <ExpandableSection headerText="Your queries of the last seven days">
      <Problem error={call.error} what="Your queries could not be loaded" onRetry={call.reload} />
      {call.data && (
        <Table
          variant="embedded"
          wrapLines
          trackBy="queryId"
          ariaLabels={{ tableLabel: "Your queries" }}
          items={queries}
          columnDefinitions={[
            { id: "started", header: "Started", cell: ({ started }) => stamp(started, zone), width: 190 },
            {
              id: "statement",
              header: "Statement",
              cell: (query) => (
                <Link href="#" onFollow={(event) => (event.preventDefault(), onChoose(query))}>
                  {visible(oneLine(query.statement))}
                </Link>
              ),
            },
            { id: "status", header: "Status", cell: ({ status, error }) => <span title={visible(error ?? "")}>{status.toLowerCase().replace("_", " ")}</span>, width: 120 },
            { id: "rows", header: "Rows", cell: ({ rows }) => rows?.toLocaleString("en"), width: 100 },
            { id: "seconds", header: "Seconds", cell: ({ seconds }) => seconds?.toFixed(1), width: 100 },
          ]}
          empty={<Box color="text-body-secondary">You have run no query in the last seven days.</Box>}
        />
      )}
    </ExpandableSection>
  );
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
