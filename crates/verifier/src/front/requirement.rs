//! Step 4: what a token must allow. Comparisons are exact: no prefixes, no wildcards, no case folding, because a scope
//! means what its issuer says and nothing that merely looks like it.

use std::fmt;
use std::sync::Arc;

use keywheel_jose::{AccessTokenClaims, Verified};
use serde_json::{Map, Value};

/// Claims that grant scopes and roles. Implement it for claims of your own to use
/// [`require_scope`](crate::Guard::require_scope) and [`require_role`](crate::Guard::require_role) with them, for instance
/// where an issuer keeps roles in a place of its own.
pub trait Grants {
    /// Whether the scope was granted (RFC 6749 §3.3). `scope` is one scope, without spaces.
    fn has_scope(&self, scope: &str) -> bool;

    /// Whether the user has the role (RFC 9068 §2.2.3.1).
    fn has_role(&self, role: &str) -> bool;
}

/// Something a token must allow, beyond being valid.
pub struct Requirement<C = AccessTokenClaims>(Kind<C>);

enum Kind<C> {
    Scope { scope: String, has: fn(&C, &str) -> bool },
    Role { role: String, has: fn(&C, &str) -> bool },
    Claim { name: &'static str, holds: Arc<Predicate<C>> },
    Any(Vec<Requirement<C>>),
    All(Vec<Requirement<C>>),
}

type Predicate<C> = dyn Fn(&Verified<C>) -> bool + Send + Sync;

/// What was missing, as far as a log or a challenge may say it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Missing {
    Scope,
    Role,
    /// A requirement with a name.
    Claim(&'static str),
}

impl<C: Grants> Requirement<C> {
    /// The token has this scope, exactly. One scope: `"read write"` is none (RFC 6749 §3.3), and never granted.
    pub fn scope(scope: impl Into<String>) -> Self {
        Self(Kind::Scope { scope: scope.into(), has: C::has_scope })
    }

    /// The user has this role, exactly.
    pub fn role(role: impl Into<String>) -> Self {
        Self(Kind::Role { role: role.into(), has: C::has_role })
    }
}

impl<C> Requirement<C> {
    /// The token is as `holds` says. The name is for logs: `"same_tenant"`.
    pub fn claim(name: &'static str, holds: impl Fn(&Verified<C>) -> bool + Send + Sync + 'static) -> Self {
        Self(Kind::Claim { name, holds: Arc::new(holds) })
    }

    /// At least one of these is met. Without any, nothing meets it.
    pub fn any(requirements: impl IntoIterator<Item = Self>) -> Self {
        Self(Kind::Any(requirements.into_iter().collect()))
    }

    /// All of these are met.
    pub fn all(requirements: impl IntoIterator<Item = Self>) -> Self {
        Self(Kind::All(requirements.into_iter().collect()))
    }

    /// Whether `token` meets it.
    #[must_use]
    pub fn is_met_by(&self, token: &Verified<C>) -> bool {
        match &self.0 {
            Kind::Scope { scope, has } => has(token.claims(), scope),
            Kind::Role { role, has } => has(token.claims(), role),
            Kind::Claim { holds, .. } => holds(token),
            Kind::Any(requirements) => requirements.iter().any(|requirement| requirement.is_met_by(token)),
            Kind::All(requirements) => requirements.iter().all(|requirement| requirement.is_met_by(token)),
        }
    }

    /// What to call the lack of it. Scopes come first, because a client can ask its user for more of them.
    pub(super) fn missing(&self, token: &Verified<C>) -> Missing {
        let mut unmet = Vec::new();
        self.collect_unmet(token, &mut unmet);
        let scope = unmet.iter().find(|missing| **missing == Missing::Scope);
        scope.or(unmet.first()).copied().unwrap_or(Missing::Claim("no_alternative"))
    }

    /// The scopes with which it would be met: of alternatives, the first that names any.
    pub(super) fn scopes<'r>(&'r self, into: &mut Vec<&'r str>) {
        match &self.0 {
            Kind::Scope { scope, .. } if !into.contains(&scope.as_str()) => into.push(scope),
            Kind::Scope { .. } | Kind::Role { .. } | Kind::Claim { .. } => {}
            Kind::All(requirements) => requirements.iter().for_each(|requirement| requirement.scopes(into)),
            Kind::Any(requirements) => {
                let named = requirements.iter().map(|requirement| {
                    let mut scopes = Vec::new();
                    requirement.scopes(&mut scopes);
                    scopes
                });
                for scope in named.into_iter().find(|scopes| !scopes.is_empty()).unwrap_or_default() {
                    if !into.contains(&scope) {
                        into.push(scope);
                    }
                }
            }
        }
    }

    fn collect_unmet(&self, token: &Verified<C>, into: &mut Vec<Missing>) {
        if self.is_met_by(token) {
            return;
        }
        match &self.0 {
            Kind::Scope { .. } => into.push(Missing::Scope),
            Kind::Role { .. } => into.push(Missing::Role),
            Kind::Claim { name, .. } => into.push(Missing::Claim(name)),
            Kind::Any(requirements) | Kind::All(requirements) => {
                requirements.iter().for_each(|requirement| requirement.collect_unmet(token, into));
            }
        }
    }
}

impl Grants for AccessTokenClaims {
    fn has_scope(&self, scope: &str) -> bool {
        self.scopes().any(|granted| granted == scope)
    }

    fn has_role(&self, role: &str) -> bool {
        self.roles.iter().any(|granted| granted == role)
    }
}

/// `scope` is a string of scopes divided by spaces, `roles` an array of strings; anything else grants nothing.
impl Grants for Map<String, Value> {
    fn has_scope(&self, scope: &str) -> bool {
        let granted = self.get("scope").and_then(Value::as_str).unwrap_or_default();
        !scope.is_empty() && granted.split(' ').any(|granted| granted == scope)
    }

    fn has_role(&self, role: &str) -> bool {
        let granted = self.get("roles").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        granted.iter().any(|granted| granted.as_str() == Some(role))
    }
}

/// As for the object; any other value grants nothing.
impl Grants for Value {
    fn has_scope(&self, scope: &str) -> bool {
        self.as_object().is_some_and(|claims| claims.has_scope(scope))
    }

    fn has_role(&self, role: &str) -> bool {
        self.as_object().is_some_and(|claims| claims.has_role(role))
    }
}

// Not derived: a requirement can be cloned whatever its claims are.
impl<C> Clone for Requirement<C> {
    fn clone(&self) -> Self {
        Self(match &self.0 {
            Kind::Scope { scope, has } => Kind::Scope { scope: scope.clone(), has: *has },
            Kind::Role { role, has } => Kind::Role { role: role.clone(), has: *has },
            Kind::Claim { name, holds } => Kind::Claim { name, holds: Arc::clone(holds) },
            Kind::Any(requirements) => Kind::Any(requirements.clone()),
            Kind::All(requirements) => Kind::All(requirements.clone()),
        })
    }
}

impl<C> fmt::Debug for Requirement<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Kind::Scope { scope, .. } => f.debug_tuple("Scope").field(scope).finish(),
            Kind::Role { role, .. } => f.debug_tuple("Role").field(role).finish(),
            Kind::Claim { name, .. } => f.debug_tuple("Claim").field(name).finish(),
            Kind::Any(requirements) => f.debug_tuple("Any").field(requirements).finish(),
            Kind::All(requirements) => f.debug_tuple("All").field(requirements).finish(),
        }
    }
}
