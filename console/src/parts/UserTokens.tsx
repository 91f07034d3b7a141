import Alert from "@cloudscape-design/components/alert";
import Box from "@cloudscape-design/components/box";
import Button from "@cloudscape-design/components/button";
import FormField from "@cloudscape-design/components/form-field";
import Header from "@cloudscape-design/components/header";
import Input from "@cloudscape-design/components/input";
import Select from "@cloudscape-design/components/select";
import SpaceBetween from "@cloudscape-design/components/space-between";
import Table from "@cloudscape-design/components/table";
import { type ReactNode, useState } from "react";
import { type ApiError, get, post } from "../api/client";
import type { NewPersonalToken, PersonalToken, PersonalTokenList } from "../api/types";
import { asApiError, useCall } from "../api/useCall";
import { usePreferences } from "../app/preferences";
import { stamp, zoneName } from "../text/time";
import { visible } from "../text/visible";
import { Copy } from "./Copy";
import { FormDialog } from "./Dialog";
import { Problem } from "./Problem";

/** Tokens that give programs, such as AI agents, the permissions of their user. */
export function UserTokens({ users }: { users: string[] }): ReactNode {
  const { zone } = usePreferences();
  const { data, error, loading, reload } = useCall((signal) => get<PersonalTokenList>("users/tokens", {}, signal), [users.join()]);
  const [creating, setCreating] = useState(false);
  const [made, setMade] = useState<NewPersonalToken | null>(null);
  const [failure, setFailure] = useState<ApiError | null>(null);
  const remove = ({ user, name }: PersonalToken): void => {
    setFailure(null);
    setMade(null);
    post("users/tokens/remove", { user, name }).then(reload, (problem) => setFailure(asApiError(problem)));
  };
  return (
    <SpaceBetween size="m">
      <Problem error={failure} what="The token was not removed" />
      <Problem error={error} what="The tokens could not be loaded" onRetry={reload} />
      <div aria-live="polite">
        {made && (
          <Alert type="success" header={`Token ${visible(made.token.name)} of ${visible(made.token.user)}`}>
            <Box variant="code">{made.secret}</Box> <Copy text={() => made.secret} label="Copy token" /> It is shown this once.
          </Alert>
        )}
      </div>
      <Table
        wrapLines
        header={
          <Header
            variant="h2"
            counter={data ? `(${data.tokens.length})` : undefined}
            description="A program with a token may do what its user may, until the token expires or is removed."
            actions={
              <Button disabled={!users.length} onClick={() => setCreating(true)}>
                Create token
              </Button>
            }
          >
            Tokens for programs
          </Header>
        }
        ariaLabels={{ tableLabel: "Tokens for programs" }}
        items={data?.tokens ?? []}
        loading={loading && !data}
        loadingText="Loading tokens"
        empty="There are no tokens."
        trackBy={({ user, name }) => `${user} ${name}`}
        columnDefinitions={[
          { id: "user", header: "User", cell: ({ user }) => visible(user), isRowHeader: true },
          { id: "name", header: "Token", cell: ({ name }) => visible(name) },
          { id: "expires", header: `Expires (${zoneName(zone)})`, cell: ({ expires }) => stamp(expires, zone) },
          {
            id: "actions",
            header: "Actions",
            cell: (token) => (
              <Button variant="inline-link" ariaLabel={`Remove token ${visible(token.name)} of ${visible(token.user)}`} onClick={() => remove(token)}>
                Remove
              </Button>
            ),
          },
        ]}
      />
      {creating && <Create users={users} onClose={() => setCreating(false)} onCreated={(token) => (setCreating(false), setMade(token), reload())} />}
    </SpaceBetween>
  );
}

function Create({ users, onClose, onCreated }: { users: string[]; onClose: () => void; onCreated: (made: NewPersonalToken) => void }): ReactNode {
  const [user, setUser] = useState(users[0] ?? "");
  const [name, setName] = useState("");
  const [days, setDays] = useState("90");
  const send = (): Promise<NewPersonalToken> => post("users/tokens", { user, name, days: Number(days) });
  const wrong = !name || !/^\d{1,3}$/.test(days);
  return (
    <FormDialog action="Create token" failed="The token was not created" disabled={wrong} send={send} onCancel={onClose} onSent={onCreated}>
      <FormField label="User">
        <Select
          selectedOption={{ value: user, label: visible(user) }}
          options={users.map((value) => ({ value, label: visible(value) }))}
          onChange={({ detail }) => setUser(detail.selectedOption.value ?? "")}
        />
      </FormField>
      <FormField label="Name" description="Name of the program or its machine, such as laptop.">
        <Input value={name} onChange={({ detail }) => setName(detail.value)} />
      </FormField>
      <FormField label="Valid for" description="Days, 1 to 366">
        <Input inputMode="numeric" value={days} onChange={({ detail }) => setDays(detail.value)} />
      </FormField>
    </FormDialog>
  );
}
