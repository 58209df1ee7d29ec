"""A service's users: a domain to copy. The store is given it as `users:domain`.

`events` holds what happens, `upcasters` how that was stored before, `state` what follows from it,
`commands` the rules. All is pure, so `store.testing` tests it without a database. `notifications`
says by mail what has happened, once it is stored; `read_model` keeps a table of users. `sample`
makes activity to look at, `history` very much of it.
"""

from store import Aggregate, Domain
from users.commands import (
    ChangeEmail,
    ChangePassword,
    CreateUser,
    LockAccount,
    RecordFailedLogin,
    RecordLogin,
    UnlockAccount,
    UpdateProfile,
)
from users.events import (
    AccountLocked,
    AccountUnlocked,
    EmailChanged,
    LoginFailed,
    LoginInfoUpdated,
    PasswordChanged,
    ProfileUpdated,
    UserCreated,
)
from users.history import history
from users.notifications import HANDLERS
from users.read_model import users
from users.sample import sample
from users.state import User, apply
from users.upcasters import UPCASTERS

user = Aggregate(
    "user",
    initial=User(),
    events=[
        UserCreated,
        ProfileUpdated,
        EmailChanged,
        PasswordChanged,
        LoginInfoUpdated,
        LoginFailed,
        AccountLocked,
        AccountUnlocked,
    ],
    apply=apply,
    commands=[
        CreateUser,
        UpdateProfile,
        ChangeEmail,
        ChangePassword,
        RecordLogin,
        RecordFailedLogin,
        LockAccount,
        UnlockAccount,
    ],
    upcasters=UPCASTERS,
    personal=[
        "username",
        "email",
        "full_name",
        "password_hash",
        "ip_address",
        "client",
        "last_login_ip",
    ],
    history=history,
)

domain = Domain("users", aggregates=[user], handlers=HANDLERS, projections=[users], sample=sample)
