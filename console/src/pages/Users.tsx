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
import type { ChangedUser, Role, User, UserList } from "../api/types";
import { asApiError, useCall } from "../api/useCall";
import { useNarrow } from "../app/narrow";
import { usePreferences } from "../app/preferences";
import { ROLES } from "../app/session";
import { Copy } from "../parts/Copy";
import { Dialog, FormDialog } from "../parts/Dialog";
import { Problem } from "../parts/Problem";
import { UserTokens } from "../parts/UserTokens";
import { stamp, zoneName } from "../text/time";
import { visible } from "../text/visible";

export default function Users(): ReactNode {
  const { zone } = usePreferences();
  const narrow = useNarrow();
  const { data, error, loading, reload } = useCall((signal) => get<UserList>("users", {}, signal), []);
  const [creating, setCreating] = useState(false);
  const [issued, setIssued] = useState<ChangedUser | null>(null);
  const [failure, setFailure] = useState<ApiError | null>(null);
  const [busy, setBusy] = useState(false);
  const run = (action: Promise<ChangedUser>): void => {
    setBusy(true);
    setFailure(null);
    setIssued(null);
    action
      .then((answer) => (setIssued(answer.password ? answer : null), reload()), (problem) => setFailure(asApiError(problem)))
      .finally(() => setBusy(false));
  };
  const change = ({ name }: User, action: string): void => run(post<ChangedUser>("users/change", { name, action }));
  const [deleting, setDeleting] = useState<User | null>(null);
  return (
    <SpaceBetween size="l">
      <Problem error={failure} what="The user was not changed" />
      <Problem error={error} what="The users could not be loaded" onRetry={reload} />
      <div>
        <div aria-live="polite">
          {issued?.user && issued.password && (
            <Box margin={{ bottom: "l" }}>
              <Password name={issued.user.name} password={issued.password} />
            </Box>
          )}
        </div>
        <Table
          variant="full-page"
          wrapLines
          visibleColumns={narrow ? ["name", "role", "state", "actions"] : undefined}
          header={
            <Header
              variant="h1"
              counter={data ? `(${data.users.length})` : undefined}
              description="Users sign in by name and password. One-time links open the console for the operator of the server."
              actions={
                <Button variant="primary" onClick={() => setCreating(true)}>
                  Create user
                </Button>
              }
            >
              Users
            </Header>
          }
          ariaLabels={{ tableLabel: "Users" }}
          items={data?.users ?? []}
          loading={loading && !data}
          loadingText="Loading users"
          empty="There are no users."
          trackBy="name"
          columnDefinitions={[
            { id: "name", header: "Name", cell: (user) => visible(user.name), isRowHeader: true },
            { id: "role", header: "Role", cell: (user) => user.role },
            { id: "accounts", header: "Accounts", cell: (user) => user.accounts?.join(", ") ?? "all" },
            { id: "state", header: "State", cell: (user) => (user.active ? (user.mustChangePassword ? "has not signed in yet" : "active") : "disabled") },
            { id: "created", header: `Created (${zoneName(zone)})`, cell: (user) => stamp(user.created, zone) },
            {
              id: "actions",
              header: "Actions",
              cell: (user) => (
                <SpaceBetween direction="horizontal" size="xs">
                  <Button variant="inline-link" disabled={busy} ariaLabel={`${user.active ? "Disable" : "Enable"} ${visible(user.name)}`} onClick={() => change(user, user.active ? "disable" : "enable")}>
                    {user.active ? "Disable" : "Enable"}
                  </Button>
                  <Button variant="inline-link" disabled={busy} ariaLabel={`Reset password of ${visible(user.name)}`} onClick={() => change(user, "reset-password")}>
                    Reset password
                  </Button>
                  <Button variant="inline-link" disabled={busy} ariaLabel={`Delete ${visible(user.name)}`} onClick={() => setDeleting(user)}>
                    Delete
                  </Button>
                </SpaceBetween>
              ),
            },
          ]}
        />
      </div>
      <UserTokens users={data?.users.map(({ name }) => name) ?? []} />
      {deleting && <Delete name={deleting.name} onCancel={() => setDeleting(null)} onConfirm={() => (setDeleting(null), change(deleting, "delete"))} />}
      {creating && <Create onClose={() => setCreating(false)} onCreated={(made) => (setCreating(false), setIssued(made), reload())} />}
    </SpaceBetween>
  );
}

function Password({ name, password }: { name: string; password: string }): ReactNode {
  return (
    <Alert type="success" header={`Password of ${visible(name)} for the next sign-in`}>
      <Box variant="code">{password}</Box>{" "}
      <Copy text={() => password} label="Copy password" />{" "}
      It is shown this once, and must be changed at that sign-in.
    </Alert>
  );
}

function Delete({ name, onCancel, onConfirm }: { name: string; onCancel: () => void; onConfirm: () => void }): ReactNode {
  return (
    <Dialog header={`Delete user ${visible(name)}?`} action="Delete user" keep="Keep user" onCancel={onCancel} onAction={onConfirm}>
      {visible(name)} is signed out everywhere and cannot sign in any more. The events of what the user did stay.
    </Dialog>
  );
}

function Create({ onClose, onCreated }: { onClose: () => void; onCreated: (made: ChangedUser) => void }): ReactNode {
  const [name, setName] = useState("");
  const [role, setRole] = useState<Role>("viewer");
  const [accounts, setAccounts] = useState("");
  const ids = accounts.split(/[\s,]+/).filter(Boolean);
  const send = (): Promise<ChangedUser> => post("users", { name, role, accounts: ids.length ? ids : null });
  return (
    <FormDialog action="Create user" failed="The user was not created" disabled={!name} send={send} onCancel={onClose} onSent={onCreated}>
      <FormField label="Name">
        <Input value={name} onChange={({ detail }) => setName(detail.value)} />
      </FormField>
      <FormField label="Role" description="Each role includes the permissions of the roles before it.">
        <Select
          selectedOption={{ value: role, label: role }}
          options={ROLES.map((value) => ({ value, label: value, description: PURPOSES[value] }))}
          onChange={({ detail }) => setRole(detail.selectedOption.value as Role)}
        />
      </FormField>
      <FormField label="Accounts" description="Ids of the accounts whose events the user may see; empty: all accounts.">
        <Input value={accounts} placeholder="111111111111, 222222222222" onChange={({ detail }) => setAccounts(detail.value)} />
      </FormField>
    </FormDialog>
  );
}

const PURPOSES: Record<Role, string> = {
  viewer: "reads events and insights",
  auditor: "proves and downloads events, sees and verifies trails",
  operator: "creates and changes trails, saves views, marks incidents as expected",
  admin: "manages users",
};
