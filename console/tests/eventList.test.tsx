import { fireEvent, render, screen, within } from "@testing-library/react";
import { type ReactNode, useState } from "react";
import { expect, test, vi } from "vitest";
import type { Event } from "../src/api/types";
import { EventList } from "../src/parts/EventList";
import { AN_EVENT } from "./factories";

function event(number: number, error: string | null = null): Event {
  const name = `user-${number}`;
  const refused = error ? ` and was refused (${error})` : "";
  return {
    ...AN_EVENT,
    eventId: `e-${number}`,
    sourceIp: "203.0.113.64",
    errorCode: error,
    sentence: `On January 1, 2020 at 9:00 AM UTC, IAM user John created IAM user ${name} through the AWS CLI${refused}`,
    clause: `IAM user John created IAM user ${name} through the AWS CLI${refused}`,
    parts: [
      { kind: "actor-type", text: "IAM user " },
      { kind: "actor", text: "John" },
      { kind: "plain", text: " " },
      { kind: "verb", text: "created " },
      { kind: "object-type", text: "IAM user " },
      { kind: "object", text: name },
      { kind: "method", text: " through the AWS CLI" },
      ...(refused ? [{ kind: "refusal" as const, text: refused }] : []),
    ],
    method: { kind: "cli", name: "the AWS CLI" },
  };
}

const EVENTS = [event(1), event(2), event(3, "AccessDenied")];

function row(number: number): HTMLElement {
  return screen.getByRole("row", { name: new RegExp(`user-${number}\\b`) });
}

function link(number: number): HTMLElement {
  return within(row(number)).getByRole("link");
}

function Selecting({ onChange }: { onChange: (events: Event[]) => void }): ReactNode {
  const [selected, setSelected] = useState<Event[]>([]);
  return (
    <EventList
      label="Events"
      items={EVENTS}
      selected={selected}
      onSelect={(events) => {
        setSelected(events);
        onChange(events);
      }}
    />
  );
}

test("a row says the whole clause, and shows what its columns do not say", () => {
  render(<EventList label="Events" items={EVENTS} />);
  expect(link(3).textContent).toBe(EVENTS[2]?.clause);
  const shown = link(3).cloneNode(true) as HTMLElement;
  shown.querySelectorAll(".hidden").forEach((node) => node.remove());
  expect(shown.textContent).toBe("John created IAM user user-3");
  expect(within(row(3)).getByText("AccessDenied")).toBeTruthy();
  expect(within(row(3)).getByText("the AWS CLI")).toBeTruthy();
});

test("who was behind a role is beside it, and one call asks for all sessions of a list", async () => {
  const parts: Event["parts"] = [
    { kind: "plain", text: "role " },
    { kind: "actor", text: "admin-role" },
    { kind: "session", text: " (session cli)" },
    { kind: "plain", text: " " },
    { kind: "verb", text: "called ListUsers" },
  ];
  const clause = "role admin-role (session cli) called ListUsers";
  const session = (number: number, key: string): Event => ({ ...event(number), principalType: "AssumedRole", accessKeyId: key, clause, parts });
  const origin = { kind: "human", words: "IAM user Ada", parts: [{ kind: "actor-type", text: "IAM user " }, { kind: "actor", text: "Ada" }] };
  const asked: URL[] = [];
  vi.stubGlobal("fetch", async (address: string) => {
    const url = new URL(address, "http://127.0.0.1");
    asked.push(url);
    return new Response(JSON.stringify({ origins: { [url.searchParams.get("ids")?.split(",")[0] ?? ""]: origin } }));
  });
  const items = [session(1, "ASIA1"), session(2, "ASIA1"), session(3, "ASIA2"), event(4)];
  const { rerender } = render(<EventList label="Events" items={items} />);
  await screen.findAllByTitle("Behind it: IAM user Ada");
  const withAda = "role admin-role (session cli), behind it IAM user Ada, called ListUsers";
  expect(screen.getAllByRole("link").map((each) => each.textContent)).toEqual([withAda, withAda, clause, EVENTS[0]?.clause.replace("user-1", "user-4")]);
  rerender(<EventList label="Events" items={[...items]} />);
  expect(asked.map(({ pathname, searchParams }) => `${pathname} ${searchParams.get("ids")?.split(",").length}`)).toEqual(["/api/v1/events/origins 2"]);
  vi.unstubAllGlobals();
});

test("the list is one stop of the Tab key, and the arrow keys move in it", () => {
  render(<EventList label="Events" items={EVENTS} />);
  const stops = (): (string | null)[] => screen.getAllByRole("link").map((each) => each.getAttribute("tabindex"));
  expect(stops()).toEqual(["0", "-1", "-1"]);
  link(1).focus();
  const grid = screen.getByRole("grid");
  const press = (key: string): void => void fireEvent.keyDown(grid, { key });
  press("ArrowDown");
  expect(document.activeElement).toBe(link(2));
  expect(stops()).toEqual(["-1", "0", "-1"]);
  press("End");
  expect(document.activeElement).toBe(link(3));
  press("ArrowDown");
  expect(document.activeElement).toBe(link(3));
  press("Home");
  expect(document.activeElement).toBe(link(1));
});

test("an open event is marked, and the keys that move take it along", () => {
  const onOpen = vi.fn();
  render(<EventList isMain label="Events" items={EVENTS} open="e-2" onOpen={onOpen} />);
  expect(row(2).getAttribute("aria-current")).toBe("true");
  expect(row(1).getAttribute("aria-current")).toBeNull();
  fireEvent.keyDown(document.body, { key: "j" });
  expect(onOpen).toHaveBeenLastCalledWith("e-3");
  expect(document.activeElement).toBe(link(3));
  fireEvent.keyDown(document.activeElement ?? document.body, { key: "k" });
  expect(onOpen).toHaveBeenLastCalledWith("e-2");
});

test("a click opens an event where it is; with Ctrl the browser follows the link", () => {
  const onOpen = vi.fn();
  render(<EventList label="Events" items={EVENTS} onOpen={onOpen} />);
  fireEvent.click(within(row(1)).getByText("203.0.113.64"));
  expect(onOpen).toHaveBeenCalledExactlyOnceWith("e-1");
  const followed = new MouseEvent("click", { bubbles: true, cancelable: true, ctrlKey: true });
  link(2).addEventListener("click", (click) => click.preventDefault(), { once: true });
  link(2).dispatchEvent(followed);
  expect(onOpen).toHaveBeenCalledOnce();
  expect(link(2).getAttribute("href")).toBe("/console/events/e-2");
});

test("rows are selected one by one, by mouse and by keys, and all at once", () => {
  const onChange = vi.fn();
  const ids = (): string[] => onChange.mock.lastCall?.[0].map(({ eventId }: Event) => eventId);
  render(<Selecting onChange={onChange} />);
  fireEvent.click(within(row(1)).getByRole("checkbox"));
  fireEvent.click(within(row(3)).getByRole("checkbox"));
  expect(ids()).toEqual(["e-1", "e-3"]);
  link(2).focus();
  fireEvent.keyDown(link(2), { key: " " });
  expect(ids()).toEqual(["e-1", "e-3", "e-2"]);
  fireEvent.click(within(row(1)).getByRole("checkbox"));
  expect(ids()).toEqual(["e-3", "e-2"]);
  fireEvent.click(screen.getByRole("checkbox", { name: "Select all events of this page" }));
  expect(ids()).toEqual(["e-1", "e-2", "e-3"]);
});

test("words between events are no event", () => {
  render(<EventList label="Events" items={[EVENTS[0] as Event, { key: "gap", note: "5 events skipped" }, EVENTS[1] as Event]} />);
  expect(screen.getByText("5 events skipped")).toBeTruthy();
  link(1).focus();
  fireEvent.keyDown(link(1), { key: "ArrowDown" });
  expect(document.activeElement).toBe(link(2));
});
