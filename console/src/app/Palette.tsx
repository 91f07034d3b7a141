import Icon, { type IconProps } from "@cloudscape-design/components/icon";
import { type KeyboardEvent, type ReactNode, useEffect, useLayoutEffect, useMemo, useRef, useState } from "react";
import { get } from "../api/client";
import { findResources } from "../api/resources";
import type { ValueCount } from "../api/types";
import { useCall } from "../api/useCall";
import { comparison, words } from "../filter/expression";
import { browserZone, number, UTC, zoneName } from "../text/time";
import { visible } from "../text/visible";
import { useCalm } from "./calm";
import { typedText } from "./keys";
import { setPreferences } from "./preferences";
import { href, navigate } from "./router";

interface Choice {
  group: string;
  icon: IconProps.Name;
  text: string;
  more?: string;
  run: () => void;
}

interface Page {
  path: string;
  name: string;
}

interface Props {
  /** The pages that the session may see. */
  pages: readonly Page[];
  onClose: () => void;
}

/** Choices of each kind. */
const MANY = 4;
const EVENT_ID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i;
const ACCESS_KEY = /^A(KIA|SIA)[A-Z0-9]{12,}$/;
const ADDRESS = /^\d{1,3}(\.\d{1,3}){3}$|^[\da-f]*:[\da-f:.]+$/i;

/** Goes to pages, resources, users and events, by the keyboard. */
export default function Palette({ pages, onClose }: Props): ReactNode {
  const [text, setText] = useState(typedText);
  const [active, setActive] = useState(0);
  const dialog = useRef<HTMLDialogElement>(null);
  const word = text.trim();
  const asked = useCalm(word, 100);
  const resources = useCall(asked ? (signal) => findResources({ prefix: asked }, signal) : null, [asked]);
  const users = useCall(asked ? (signal) => get<{ values: ValueCount[] }>("values", { field: "username", prefix: asked }, signal) : null, [asked]);
  const names = useCall(asked ? (signal) => get<{ values: ValueCount[] }>("values", { field: "eventName", prefix: asked }, signal) : null, [asked]);
  const choices = useMemo<Choice[]>(() => {
    const counted = (group: string, icon: IconProps.Name, field: string, values: ValueCount[]): Choice[] =>
      values.slice(0, MANY).map(({ value, count }) => ({
        group,
        icon,
        text: value,
        more: `${number(count)} ${count === 1 ? "event" : "events"}`,
        run: () => navigate(href("/events", { expression: comparison(field, value), categories: "all" })),
      }));
    const [named, others] = [true, false].map((isNamed) => places(pages, word).filter(({ text }) => (text.toLowerCase() === word.toLowerCase()) === isNamed));
    return [
      ...(named ?? []),
      ...(word ? searches(word) : []),
      ...(word ? (resources.data ?? []) : []).slice(0, MANY).map(({ name, type }) => ({
        group: "Resources",
        icon: "folder" as const,
        text: name,
        more: type ?? undefined,
        run: () => navigate(href("/resources", { name, ...(type ? { type } : {}) })),
      })),
      ...(word ? counted("Users", "user-profile", "username", users.data?.values ?? []) : []),
      ...(word ? counted("Events", "script", "eventName", names.data?.values ?? []) : []),
      ...(others ?? []),
    ];
  }, [word, resources.data, users.data, names.data, pages]);
  const chosen = Math.min(active, choices.length - 1);

  useLayoutEffect(() => {
    if (!dialog.current?.open) dialog.current?.showModal?.();
  }, []);
  useEffect(() => setActive(0), [word]);
  useEffect(() => {
    document.getElementById(`choice-${chosen}`)?.scrollIntoView?.({ block: "nearest" });
  }, [chosen]);

  const take = (choice: Choice | undefined): void => {
    if (!choice) return;
    onClose();
    choice.run();
  };
  const onKeyDown = (event: KeyboardEvent): void => {
    const by = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (by) setActive((chosen + by + choices.length) % choices.length);
    else if (event.key === "Enter") take(choices[chosen]);
    else if (event.key === "Escape") onClose();
    else return;
    event.preventDefault();
    event.stopPropagation();
  };

  return (
    <dialog
      ref={dialog}
      className="palette"
      aria-label="Search or jump to"
      onClose={onClose}
      onClick={({ target }) => target === dialog.current && onClose()}
      onKeyDown={onKeyDown}
    >
      <div className="palette-text">
        <Icon name="search" />
        <input
          role="combobox"
          aria-expanded="true"
          aria-controls="choices"
          aria-activedescendant={choices.length ? `choice-${chosen}` : undefined}
          aria-autocomplete="list"
          aria-label="Search or jump to"
          placeholder="Resource, user, event, page, address, key ID"
          autoComplete="off"
          spellCheck={false}
          value={text}
          onChange={({ target }) => setText(target.value)}
          // A dialog gives the focus to its first control.
          autoFocus
        />
      </div>
      <ul id="choices" role="listbox" aria-label="Choices">
        {choices.map((choice, index) => (
          <li
            key={`${choice.group} ${choice.text} ${choice.more ?? ""}`}
            id={`choice-${index}`}
            role="option"
            aria-selected={index === chosen}
            onMouseMove={() => setActive(index)}
            onClick={() => take(choice)}
          >
            <Icon name={choice.icon} />
            <span className="palette-choice">{visible(choice.text)}</span>
            <span className="secondary">{visible([choice.group, choice.more].filter(Boolean).join(" · "))}</span>
          </li>
        ))}
      </ul>
    </dialog>
  );
}

/** Possible meanings of the typed text, by its form, and a search for it in all events. */
function searches(word: string): Choice[] {
  const events = (expression: string) => () => navigate(href("/events", { expression, categories: "all" }));
  const found: Choice[] = [];
  const add = (icon: IconProps.Name, text: string, run: () => void): void => void found.push({ group: "Go to", icon, text, run });
  if (EVENT_ID.test(word)) add("script", `Event ${word}`, () => navigate(href(`/events/${word}`)));
  if (ACCESS_KEY.test(word)) add("key", `Calls with access key ${word}`, events(comparison("accessKeyId", word)));
  if (ADDRESS.test(word)) add("globe", `Calls from ${word}`, events(comparison("sourceIPAddress", word)));
  if (word.startsWith("arn:")) {
    add("user-profile", `Principal ${word}`, () => navigate(href("/principals", { arn: word })));
    add("folder", `Resource ${word}`, () => navigate(href("/resources", { name: word })));
    add("calendar", `Timeline of ${word}`, () => navigate(href("/timeline", { name: word })));
  }
  found.push({ group: "Event history", icon: "search", text: `Search for “${word}”`, run: events(words(word)) });
  return found;
}

/** Pages and instant settings whose names contain the text. */
function places(pages: readonly Page[], word: string): Choice[] {
  const zones = [...new Set([UTC, browserZone()])];
  const all: Choice[] = [
    ...pages.map(({ path, name }): Choice => ({ group: "Go to", icon: "angle-right", text: name, run: () => navigate(href(path)) })),
    ...zones.map((zone): Choice => ({ group: "Times", icon: "status-pending", text: zoneName(zone), run: () => setPreferences({ zone }) })),
    ...(["light", "dark", "system"] as const).map(
      (theme): Choice => ({ group: "Theme", icon: "settings", text: { light: "Light", dark: "Dark", system: "As the system" }[theme], run: () => setPreferences({ theme }) }),
    ),
  ];
  return word ? all.filter(({ group, text }) => `${group} ${text}`.toLowerCase().includes(word.toLowerCase())) : all;
}
