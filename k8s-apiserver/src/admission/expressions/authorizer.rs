//! `authorizer`: what a user may do, asked by an expression.

use std::collections::HashMap;

use k8s_model::cel::{CelError, Host, Val};
use parking_lot::Mutex;
use serde_json::Value;
use std::rc::Rc;

use crate::{
    auth::Identity,
    authz::{Attributes, Authorizer, Decision, Selectors},
};

/// A question for the authorizer.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct Question {
    /// A service account, if it is not about the user: its namespace and name.
    service_account: Option<(String, String)>,
    verb: String,
    group: String,
    resource: String,
    subresource: String,
    namespace: String,
    name: String,
    path: String,
    resource_request: bool,
    /// Empty where nothing is selected.
    field_selector: String,
    label_selector: String,
}

/// What the authorizer was asked, and what it has said.
#[derive(Debug, Default)]
pub(in crate::admission) struct Questions(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    known: HashMap<Question, Decision>,
    open: Vec<Question>,
}

impl Questions {
    fn ask(&self, question: Question) -> Result<Decision, CelError> {
        let mut state = self.0.lock();
        if let Some(decision) = state.known.get(&question) {
            return Ok(decision.clone());
        }
        if !state.open.contains(&question) {
            state.open.push(question);
        }
        Err(CelError::Pending)
    }

    fn take_open(&self) -> Vec<Question> {
        std::mem::take(&mut self.0.lock().open)
    }
}

/// Evaluates until nothing that was asked is open any more. Each evaluation begins anew.
pub(in crate::admission) async fn settle<T>(
    questions: &Questions,
    user: &Identity,
    authorizer: &dyn Authorizer,
    mut evaluate: impl FnMut() -> T,
) -> T {
    loop {
        let result = evaluate();
        let open = questions.take_open();
        if open.is_empty() {
            return result;
        }
        drop(result);
        for question in open {
            let account = question.service_account.as_ref();
            let account = account.map(|(ns, name)| Identity::service_account(ns, name, ""));
            let selectors = Selectors::parse(&question.field_selector, &question.label_selector);
            let attributes = Attributes {
                user: account.as_ref().unwrap_or(user),
                verb: &question.verb,
                group: &question.group,
                version: if question.resource_request { "*" } else { "" },
                resource: &question.resource,
                subresource: &question.subresource,
                namespace: &question.namespace,
                name: &question.name,
                path: &question.path,
                resource_request: question.resource_request,
                selectors: (!selectors.is_empty()).then_some(&selectors),
            };
            let decision = authorizer.authorize(&attributes).await;
            questions.0.lock().known.insert(question, decision);
        }
    }
}

/// The value that expressions know as `authorizer`, and what its methods give.
#[derive(Clone, Debug)]
pub(super) struct AuthorizerValue<'v> {
    request: &'v Value,
    questions: &'v Questions,
    state: Step,
}

#[derive(Clone, Debug)]
enum Step {
    /// `authorizer`.
    Root(Question),
    /// `authorizer.group('')`.
    Group(Question),
    /// With a resource, or a path: what can be checked.
    Check(Question),
    /// The answer.
    Decided(Decision),
}

impl<'v> AuthorizerValue<'v> {
    pub(super) fn new(request: &'v Value, questions: &'v Questions) -> Self {
        AuthorizerValue {
            request,
            questions,
            state: Step::Root(Question::default()),
        }
    }

    fn then(&self, state: Step) -> Val<'v> {
        Val::Host(Rc::new(AuthorizerValue {
            state,
            ..self.clone()
        }))
    }
}

impl<'v> Host<'v> for AuthorizerValue<'v> {
    fn type_name(&self) -> &'static str {
        match &self.state {
            Step::Root(_) => "kubernetes.authorization.Authorizer",
            Step::Group(_) => "kubernetes.authorization.GroupCheck",
            Step::Check(question) if question.resource_request => {
                "kubernetes.authorization.ResourceCheck"
            }
            Step::Check(_) => "kubernetes.authorization.PathCheck",
            Step::Decided(_) => "kubernetes.authorization.Decision",
        }
    }

    fn field(&self, name: &str, _budget: &mut u64) -> Result<Option<Val<'v>>, CelError> {
        let (Step::Root(question), "requestResource") = (&self.state, name) else {
            return Ok(None);
        };
        // What the request itself is about.
        let text = |pointer: &str| {
            let found = self.request.pointer(pointer).and_then(Value::as_str);
            found.unwrap_or_default().to_owned()
        };
        Ok(Some(self.then(Step::Check(Question {
            group: text("/resource/group"),
            resource: text("/resource/resource"),
            subresource: text("/subResource"),
            namespace: text("/namespace"),
            name: text("/name"),
            resource_request: true,
            ..question.clone()
        }))))
    }

    fn call(
        &self,
        method: &str,
        arguments: &[Val<'v>],
        _budget: &mut u64,
    ) -> Result<Val<'v>, CelError> {
        let texts: Option<Vec<&str>> = arguments
            .iter()
            .map(|argument| match argument {
                Val::String(text) => Some(&**text),
                _ => None,
            })
            .collect();
        let texts = texts.ok_or(CelError::NoOverload)?;
        let next = match (&self.state, method, texts.as_slice()) {
            (Step::Root(question), "group", [group]) => Step::Group(Question {
                group: (*group).to_owned(),
                resource_request: true,
                ..question.clone()
            }),
            (Step::Root(question), "path", [path]) => Step::Check(Question {
                path: (*path).to_owned(),
                ..question.clone()
            }),
            (Step::Root(question), "serviceAccount", [namespace, name]) => Step::Root(Question {
                service_account: Some(((*namespace).to_owned(), (*name).to_owned())),
                ..question.clone()
            }),
            (Step::Group(question), "resource", [resource]) => Step::Check(Question {
                resource: (*resource).to_owned(),
                ..question.clone()
            }),
            (Step::Check(question), "check", [verb]) => {
                let question = Question {
                    verb: (*verb).to_owned(),
                    ..question.clone()
                };
                Step::Decided(self.questions.ask(question)?)
            }
            (Step::Check(question), name, [value]) if question.resource_request => {
                let mut question = question.clone();
                let place = match name {
                    "subresource" => &mut question.subresource,
                    "namespace" => &mut question.namespace,
                    "name" => &mut question.name,
                    "fieldSelector" => &mut question.field_selector,
                    "labelSelector" => &mut question.label_selector,
                    _ => return Err(CelError::NoOverload),
                };
                *place = (*value).to_owned();
                Step::Check(question)
            }
            (Step::Decided(decision), "allowed", []) => return Ok(decision.is_allowed().into()),
            (Step::Decided(decision), "reason", []) => return Ok(decision.reason().into()),
            (Step::Decided(decision), "errored", []) => {
                return Ok(decision.error().is_some().into());
            }
            (Step::Decided(decision), "error", []) => {
                return Ok(decision.error().unwrap_or_default().into());
            }
            _ => return Err(CelError::NoOverload),
        };
        Ok(self.then(next))
    }
}
