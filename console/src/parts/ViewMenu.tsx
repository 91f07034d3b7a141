import ButtonDropdown from "@cloudscape-design/components/button-dropdown";
import { type ReactNode, useState } from "react";
import { get } from "../api/client";
import type { SavedView, ViewState } from "../api/types";
import { useCall } from "../api/useCall";
import { href, navigate } from "../app/router";
import recipes from "../filter/recipes.json";
import { visible } from "../text/visible";
import SavedViews, { addressOf, wordsOf } from "./SavedViews";

const QUESTIONS = { text: "Questions", items: recipes.map(({ question }, index) => ({ id: `recipe ${index}`, text: question })) };

interface Props {
  /** The state of the page, which can be saved. */
  state: ViewState;
  zone: string;
  /** Opens a view; by default, at its address. */
  onOpen?: (state: ViewState) => void;
}

/** The saved views of event history, or the saved queries if the state has a statement. */
export default function ViewMenu({ state, zone, onOpen = (chosen) => navigate(addressOf(chosen)) }: Props): ReactNode {
  const [open, setOpen] = useState(false);
  const { data, reload } = useCall((signal) => get<{ views: SavedView[] }>("views", {}, signal), []);
  const { one, many } = wordsOf(state);
  const isQuery = state.statement !== undefined;
  const views = (data?.views ?? []).filter((view) => (view.state.statement !== undefined) === isQuery);
  const choices = views.map(({ name }, index) => ({ id: `view ${index}`, text: visible(name) }));
  return (
    <>
      <ButtonDropdown
        variant="icon"
        iconName="star"
        ariaLabel={`Saved ${many}`}
        items={[
          { id: "save", text: `Save this ${one}…` },
          ...(choices.length ? [{ id: "manage", text: `Replace or delete ${many}…` }, { text: "Open", items: choices }] : []),
          ...(isQuery ? [] : [QUESTIONS]),
        ]}
        onItemClick={({ detail: { id } }) => {
          const recipe = recipes[Number(id.replace(/^recipe /, ""))];
          if (recipe && id.startsWith("recipe ")) return navigate(href("/events", { expression: recipe.expression, categories: "all" }));
          const view = views[choices.findIndex((choice) => choice.id === id)];
          if (view) onOpen(view.state);
          else setOpen(true);
          return undefined;
        }}
      />
      {open && <SavedViews state={state} views={views} zone={zone} onChange={reload} onOpen={onOpen} onClose={() => setOpen(false)} />}
    </>
  );
}
