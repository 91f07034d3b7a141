import Alert from "@cloudscape-design/components/alert";
import AppLayoutToolbar from "@cloudscape-design/components/app-layout-toolbar";
import Box from "@cloudscape-design/components/box";
import BreadcrumbGroup from "@cloudscape-design/components/breadcrumb-group";
import Button from "@cloudscape-design/components/button";
import Header from "@cloudscape-design/components/header";
import Icon from "@cloudscape-design/components/icon";
import Link from "@cloudscape-design/components/link";
import { I18nProvider } from "@cloudscape-design/components/i18n";
import english from "@cloudscape-design/components/i18n/messages/all.en";
import SideNavigation, { type SideNavigationProps } from "@cloudscape-design/components/side-navigation";
import SpaceBetween from "@cloudscape-design/components/space-between";
import Spinner from "@cloudscape-design/components/spinner";
import TopNavigation from "@cloudscape-design/components/top-navigation";
import { type ReactNode, useEffect, useState, useSyncExternalStore } from "react";
import { asApiError } from "../api/useCall";
import { type ApiError, connection, remove } from "../api/client";
import type { Session } from "../api/types";
import { browserZone, UTC, zoneName } from "../text/time";
import { visible } from "../text/visible";
import { ErrorBoundary } from "./ErrorBoundary";
import { TypedText, useKeys } from "./keys";
import { useNarrow } from "./narrow";
import { onDemand } from "./onDemand";
import { PAGES, pageAt } from "./pages";
import { PanelContext, type PanelState } from "./panel";
import { setPreferences, usePreferences } from "./preferences";
import { BASE, changeQuery, follow, href, navigate, useRoute } from "./router";
import { atLeast, begin, current, SessionContext, useSession } from "./session";

const Palette = onDemand(() => import("./Palette"), <TypedText />);
const ShortcutHelp = onDemand(() => import("./ShortcutHelp"));
const SignIn = onDemand(() => import("./SignIn"), <Spinner />);

export function App({ token }: { token: string | null }): ReactNode {
  const [session, setSession] = useState<Session | null>(null);
  const [refused, setRefused] = useState<ApiError | null>(null);
  const state = useSyncExternalStore(connection.subscribe, connection.current);

  useEffect(() => {
    begin(token).then(setSession, (error) => setRefused(asApiError(error)));
  }, [token]);

  // Another tab may open a new link, and a stopped server may start again: ask while someone looks.
  const isWaiting = state === "no-session" || state === "unreachable" || (!session && state === "ok");
  useEffect(() => {
    const ask = (): void => {
      if (document.visibilityState !== "visible") return;
      current().then(
        (found) => found && (setSession(found), setRefused(null)),
        () => undefined,
      );
    };
    window.addEventListener("focus", ask);
    document.addEventListener("visibilitychange", ask);
    const timer = isWaiting ? setInterval(ask, 2_000) : undefined;
    return () => {
      window.removeEventListener("focus", ask);
      document.removeEventListener("visibilitychange", ask);
      clearInterval(timer);
    };
  }, [isWaiting]);

  return (
    <I18nProvider locale="en" messages={[english]}>
      {session ? (
        <SessionContext value={session}>
          <Shell session={session} state={state} />
        </SessionContext>
      ) : (
        <Welcome state={state} refused={refused} onSignedIn={() => void current().then(setSession, () => undefined)} />
      )}
    </I18nProvider>
  );
}

function Welcome({ state, refused, onSignedIn }: { state: string; refused: ApiError | null; onSignedIn: () => void }): ReactNode {
  // The page keeps asking for a session; typed text must survive that.
  const [wasAsked, setWasAsked] = useState(false);
  const isAsked = state === "no-session" || (wasAsked && state === "ok");
  useEffect(() => {
    if (state === "no-session") setWasAsked(true);
  }, [state]);
  if (!isAsked && state !== "unreachable") {
    return (
      <Box textAlign="center" padding="xxxl">
        <Spinner size="large" />
      </Box>
    );
  }
  return (
    <main className="welcome">
      <SpaceBetween size="l">
        <Header variant="h1">opentrail</Header>
        {state === "unreachable" && <Unreachable />}
        {isAsked && <SignIn onSignedIn={onSignedIn} />}
        {isAsked && <NoSession refused={refused} />}
      </SpaceBetween>
    </main>
  );
}

function NoSession({ refused }: { refused?: ApiError | null }): ReactNode {
  const header = refused ? "This link was used before, or is older than ten minutes" : "Open the console by a link";
  return (
    <Alert type="info" header={header}>
      Run <Box variant="code">opentrail console</Box> where the server runs. It prints a link that works once; open it in
      this browser. This page continues by itself.
    </Alert>
  );
}

function Unreachable(): ReactNode {
  return (
    <Alert type="warning" header="The server does not answer">
      It may have been stopped. This page tries again every two seconds and continues when the server is back.
    </Alert>
  );
}

function Shell({ session, state }: { session: Session; state: string }): ReactNode {
  const { path, query } = useRoute();
  const { navigation } = usePreferences();
  const narrow = useNarrow();
  const [open, setOpen] = useState(navigation && !narrow);
  const [help, setHelp] = useState(false);
  const [palette, setPalette] = useState(false);
  const [panel, setPanel] = useState<PanelState | null>(null);
  const page = pageAt(path);
  const isAllowed = !page || atLeast(session, page.least);
  const Page = isAllowed ? page?.component : undefined;
  const name = page?.name ?? "Page not found";
  const part = partAt(path, name, query);

  const toggle = (isOpen: boolean): void => {
    setOpen(isOpen);
    if (!narrow) setPreferences({ navigation: isOpen });
  };

  useEffect(() => {
    document.title = `${name} · opentrail`;
  }, [name]);
  useEffect(() => {
    if (narrow) setOpen(false);
  }, [narrow, path]);
  useEffect(() => {
    const open = (event: KeyboardEvent): void => {
      if (event.key.toLowerCase() !== "k" || !(event.ctrlKey || event.metaKey) || event.altKey || event.shiftKey) return;
      event.preventDefault();
      setPalette(true);
    };
    window.addEventListener("keydown", open);
    return () => window.removeEventListener("keydown", open);
  }, []);
  useKeys({
    "?": () => setHelp(true),
    l: () => navigate(href("/live")),
    ...Object.fromEntries(pagesFor(session).map(({ path, letter }) => [`g ${letter}`, () => navigate(href(path))])),
  });

  return (
    <PanelContext value={setPanel}>
      <div id="top">
        <button type="button" className="menu" aria-label="Navigation" aria-expanded={open} title="Navigation" onClick={() => toggle(!open)}>
          <Icon name="menu" />
        </button>
        <TopBar session={session} onHelp={() => setHelp(true)} onSearch={() => setPalette(true)} />
      </div>
      <AppLayoutToolbar
        headerSelector="#top"
        breadcrumbs={part ? <Breadcrumbs {...part} /> : undefined}
        navigationTriggerHide
        navigation={<Navigation path={path} />}
        navigationOpen={open}
        onNavigationChange={({ detail }) => toggle(detail.open)}
        navigationWidth={220}
        toolsHide
        splitPanel={panel?.content}
        splitPanelOpen={panel !== null}
        onSplitPanelToggle={({ detail }) => !detail.open && panel?.onClose()}
        splitPanelPreferences={{ position: narrow ? "bottom" : "side" }}
        splitPanelSize={panel?.size ?? 560}
        onSplitPanelResize={({ detail }) => setPanel((before) => before && { ...before, size: detail.size })}
        notifications={state === "no-session" || state === "unreachable" ? <Interrupted state={state} /> : undefined}
        content={
          <ErrorBoundary key={path} name={name}>
            {Page ? <Page parameter={decodeURIComponent(page?.pattern.exec(path)?.[1] ?? "")} /> : isAllowed ? <NotFound path={path} /> : <NotAllowed name={name} session={session} />}
          </ErrorBoundary>
        }
      />
      {palette && <Palette pages={pagesFor(session)} onClose={() => setPalette(false)} />}
      {help && <ShortcutHelp pages={pagesFor(session)} onClose={() => setHelp(false)} />}
    </PanelContext>
  );
}

function Interrupted({ state }: { state: string }): ReactNode {
  return state === "unreachable" ? (
    <Unreachable />
  ) : (
    <Alert type="warning" header="The session expired">
      <Link href={`${BASE}/`} external externalIconAriaLabel="opens in a new tab">
        Sign in
      </Link>{" "}
      in another tab, or run <Box variant="code">opentrail console</Box> and open the link it prints. What this page shows
      remains, and it continues by itself.
    </Alert>
  );
}

function NotAllowed({ name, session }: { name: string; session: Session }): ReactNode {
  return (
    <SpaceBetween size="m">
      <Header variant="h1">{name}</Header>
      <Alert type="info" header="This page is not for your role">
        {visible(session.user)} is {session.role}. An administrator can create a user of another role.
      </Alert>
    </SpaceBetween>
  );
}

function NotFound({ path }: { path: string }): ReactNode {
  return (
    <SpaceBetween size="m">
      <Header variant="h1">Page not found</Header>
      <Box>There is no page {visible(path)}.</Box>
      <Button href={href("/events")} onFollow={follow}>
        Event history
      </Button>
    </SpaceBetween>
  );
}

/** The letter goes to the page after the key `g`. */
const NAVIGATION = [
  { path: "/", name: "Dashboard", letter: "d", group: null },
  { path: "/events", name: "Event history", letter: "e", group: "Search" },
  { path: "/live", name: "Live", letter: "l", group: "Search" },
  { path: "/timeline", name: "Timeline", letter: "m", group: "Search" },
  { path: "/principals", name: "Principals", letter: "p", group: "Search" },
  { path: "/resources", name: "Resources", letter: "r", group: "Search" },
  { path: "/sql", name: "SQL", letter: "q", group: "Search" },
  { path: "/stores", name: "Event data stores", letter: "o", group: "Search" },
  { path: "/insights", name: "Insights", letter: "i", group: "Findings" },
  { path: "/detections", name: "Detections", letter: "n", group: "Findings" },
  { path: "/trails", name: "Trails", letter: "t", group: "Trails" },
  { path: "/integrity", name: "Integrity", letter: "v", group: "Trails" },
  { path: "/users", name: "Users", letter: "u", group: "Settings" },
  { path: "/settings", name: "Settings", letter: "s", group: "Settings" },
] as const;

/** The pages that a session's user may see. */
function pagesFor(session: Session): (typeof NAVIGATION)[number][] {
  return NAVIGATION.filter(({ path }) => PAGES.every((entry) => !entry.pattern.test(path) || atLeast(session, entry.least)));
}

function Navigation({ path }: { path: string }): ReactNode {
  const session = useSession();
  const shown = pagesFor(session);
  const groups = [...new Set(shown.map(({ group }) => group))];
  const active = NAVIGATION.findLast(({ path: start }) => path === start || (start !== "/" && path.startsWith(start)));
  return (
    <SideNavigation
      activeHref={active && href(active.path)}
      items={groups.flatMap((group): SideNavigationProps.Item[] => {
        const items = shown.filter((page) => page.group === group).map(({ path: start, name }) => ({ type: "link" as const, text: name, href: href(start) }));
        return group === null ? items : [{ type: "section-group" as const, title: group, items }];
      })}
      onFollow={follow}
    />
  );
}

/** A page below one of the navigation. */
interface Part {
  section: { name: string; href: string };
  name: string;
}

/** The page above an address; null: the page is in the navigation. */
function partAt(path: string, name: string, query: URLSearchParams): Part | null {
  const section = NAVIGATION.findLast(({ path: start }) => start !== "/" && path.startsWith(`${start}/`));
  if (section) return { section: { name: section.name, href: href(section.path) }, name };
  // The page of one principal or resource has the path of their list.
  const one = path === "/principals" ? query.get("arn") : path === "/resources" ? query.get("name") : null;
  return one === null ? null : { section: { name, href: href(path) }, name: visible(one.slice(one.lastIndexOf("/") + 1)) };
}

function Breadcrumbs({ section, name }: Part): ReactNode {
  return <BreadcrumbGroup items={[{ text: section.name, href: section.href }, { text: name, href: "" }]} onFollow={follow} />;
}

const ALL = "all";
const OTHER_ZONE = "other";
const RELATIVE = "relative";

interface TopBarProps {
  session: Session;
  onHelp: () => void;
  onSearch: () => void;
}

function TopBar({ session, onHelp, onSearch }: TopBarProps): ReactNode {
  const { query } = useRoute();
  const chosen = usePreferences();
  const account = query.get("account");
  const region = query.get("region");
  const choose = (name: string) => (event: CustomEvent<{ id: string }>) =>
    changeQuery({ [name]: event.detail.id === ALL ? null : event.detail.id, cursor: null });
  const checked = (items: string[], current: string | null, all: string): { id: string; text: string }[] => [
    { id: ALL, text: current === null ? `✓ ${all}` : all },
    ...items.map((id) => ({ id, text: id === current ? `✓ ${id}` : id })),
  ];
  return (
    <TopNavigation
      identity={{ href: `${BASE}/`, title: "opentrail", onFollow: (event) => (event.preventDefault(), navigate(href("/"))) }}
      search={
        <button type="button" className="jump" onClick={onSearch}>
          <Icon name="search" size="small" />
          <span>Search or jump to</span>
          <kbd>Ctrl K</kbd>
        </button>
      }
      utilities={[
        {
          type: "menu-dropdown",
          text: account ? visible(account) : "All accounts",
          ariaLabel: `Account: ${account ? visible(account) : "All accounts"}`,
          items: checked(session.accounts, account, "All accounts"),
          onItemClick: choose("account"),
        },
        {
          type: "menu-dropdown",
          text: region ? visible(region) : "All Regions",
          ariaLabel: `Region: ${region ? visible(region) : "All Regions"}`,
          items: checked(session.regions, region, "All Regions"),
          onItemClick: choose("region"),
        },
        {
          type: "menu-dropdown",
          text: zoneName(chosen.zone),
          ariaLabel: `Time zone: ${zoneName(chosen.zone)}`,
          items: [
            ...[...new Set([UTC, browserZone(), chosen.zone])].map((zone) => ({ id: zone, text: `${zone === chosen.zone ? "✓ " : ""}${zoneName(zone)}` })),
            { id: OTHER_ZONE, text: "Other…" },
            { id: RELATIVE, text: `${chosen.relative ? "✓ " : ""}As “5 min ago” in lists` },
          ],
          onItemClick: ({ detail: { id } }) => {
            if (id === OTHER_ZONE) navigate(href("/settings"));
            else setPreferences(id === RELATIVE ? { relative: !chosen.relative } : { zone: id });
          },
        },
        {
          type: "menu-dropdown",
          iconName: "settings",
          ariaLabel: "Display",
          items: [
            {
              id: "themes",
              text: "Theme",
              items: (["system", "light", "dark"] as const).map((id) => ({
                id,
                text: `${chosen.theme === id ? "✓ " : ""}${{ system: "As the system", light: "Light", dark: "Dark" }[id]}`,
              })),
            },
            { id: "help", text: "Keyboard shortcuts" },
            { id: "settings", text: "Settings" },
          ],
          onItemClick: ({ detail: { id } }) => {
            if (id === "help") onHelp();
            else if (id === "settings") navigate(href("/settings"));
            else setPreferences({ theme: id as "system" });
          },
        },
        {
          type: "menu-dropdown",
          text: visible(session.user),
          iconName: "user-profile",
          ariaLabel: `Session: ${visible(session.user)}`,
          description: `${session.role}, opentrail ${session.version}`,
          items: [{ id: "end", text: "Sign out" }],
          onItemClick: () => void remove("session").then(() => connection.report("no-session"), () => undefined),
        },
      ]}
    />
  );
}
