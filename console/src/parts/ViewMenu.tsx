import ButtonDropdown from "@cloudscape-design/components/button-dropdown";
import { type ReactNode, useState } from "react";
import { get } from "../api/client";
import type { SavedView, ViewState } from "../api/types";
import { useCall } from "../api/useCall";
import { href, navigate } from "../app/router";
import recipes from "../filter/recipes.json";
import { visible } from "../text/visible";
import SavedViews from "./SavedViews";

const SAVE = { id: "save", text: "Save this view…" };
const QUESTIONS = { text: "Questions", items: recipes.map(({ question }, index) => ({ id: `recipe ${index}`, text: question })) };
const MANAGE = { id: "manage", text: "Replace or delete views…" };

export default function ViewMenu({ state, zone }: { state: ViewState; zone: string }): ReactNode {
  const [open, setOpen] = useState(false);
  const { data, reload } = useCall((signal) => get<{ views: SavedView[] }>("views", {}, signal), []);
  const views = data?.views ?? [];
  const choices = views.map(({ name }, index) => ({ id: `view ${index}`, text: visible(name) }));
  return (
    <>
      <ButtonDropdown
        variant="icon"
        iconName="star"
        ariaLabel="Saved views"
        items={[...(choices.length ? [SAVE, MANAGE, { text: "Open", items: choices }] : [SAVE]), QUESTIONS]}
        onItemClick={({ detail: { id } }) => {
          const recipe = recipes[Number(id.replace(/^recipe /, ""))];
          if (recipe && id.startsWith("recipe ")) return navigate(href("/events", { expression: recipe.expression, categories: "all" }));
          const view = views[choices.findIndex((choice) => choice.id === id)];
          if (view) navigate(href("/events", { ...view.state }));
          else setOpen(true);
          return undefined;
        }}
      />
      {open && <SavedViews state={state} views={views} zone={zone} onChange={reload} onClose={() => setOpen(false)} />}
    </>
  );
}
