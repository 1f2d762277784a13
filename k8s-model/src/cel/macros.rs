//! Macros: calls that stand for other expressions. Besides those of the parser's own library (`optMap` and `optFlatMap`
//! among them): comprehensions with two variables (`all`, `exists`, `existsOne`, `transformList`, `transformMap`,
//! `transformMapEntry`), and `sortBy`; in selectors of devices variables (`cel.bind`).
//!
//! As cel-go's `ext` package expands them.

use std::sync::LazyLock;

use super::Dialect;
use cel::{
    Env, IdedExpr,
    common::ast::{CallExpr, ComprehensionExpr, Expr, ListExpr, LiteralValue, operators},
    parser::{Macro, MacroExprHelper, ParseError, Parser},
};

/// The variable of a comprehension that goes through nothing, and only binds.
pub(super) const UNUSED: &str = "#unused";

/// What `optMap` and `optFlatMap` are called of, if that has no name of its own.
pub(super) const TARGET: &str = "@target";

/// What a comprehension gathers into.
const RESULT: &str = "@result";

/// What `sortBy` sorts.
const INPUT: &str = "#input";

/// Adds an entry, or another map's entries, to the map that a comprehension gathers.
pub(super) const MAP_INSERT: &str = "@mapInsert";

/// Sorts a list by keys, one for each element.
pub(super) const SORT_BY: &str = "@sortBy";

/// A parser that knows the macros of a dialect.
pub(super) fn parser(dialect: Dialect) -> Parser {
    fn env(more: Option<Macro>) -> Env {
        let mut env = Env::stdlib();
        for added in all().into_iter().chain(more) {
            // None of them is one of the standard library's.
            let _ = env.add_macro(added);
        }
        env
    }
    static COMMON: LazyLock<Env> = LazyLock::new(|| env(None));
    static DEVICES: LazyLock<Env> = LazyLock::new(|| env(Some(Macro::receiver("bind", 3, bind))));
    match dialect {
        Dialect::Common => COMMON.parser(),
        Dialect::Devices => DEVICES.parser(),
    }
}

type Helper<'h> = MacroExprHelper<'h>;
type Expanded = Result<Option<IdedExpr>, ParseError>;
type Arguments = Vec<IdedExpr>;

/// The variables of a comprehension.
type Names = (String, Option<String>);

fn all() -> Vec<Macro> {
    let mut out = vec![
        Macro::receiver("sortBy", 2, sort_by),
        Macro::receiver("all", 3, |helper, target, args| {
            quantified(helper, target, args, true)
        }),
        Macro::receiver("exists", 3, |helper, target, args| {
            quantified(helper, target, args, false)
        }),
    ];
    for name in ["existsOne", "exists_one"] {
        out.push(Macro::receiver(name, 3, exists_one));
    }
    for count in [3, 4] {
        out.push(Macro::receiver("transformList", count, transform_list));
        out.push(Macro::receiver("transformMap", count, transform_map));
        out.push(Macro::receiver("transformMapEntry", count, transform_entry));
    }
    out
}

/// The name of a variable, which must be a plain one.
fn variable(helper: &Helper<'_>, argument: &IdedExpr) -> Result<String, ParseError> {
    match &argument.expr {
        Expr::Ident(name) => Ok(name.clone()),
        _ => Err(helper.new_error(argument.id, "argument must be a simple name")),
    }
}

fn ident(helper: &mut Helper<'_>, name: &str) -> IdedExpr {
    helper.next_expr(Expr::Ident(name.to_owned()))
}

fn boolean(helper: &mut Helper<'_>, value: bool) -> IdedExpr {
    helper.next_expr(Expr::Literal(LiteralValue::Boolean(value.into())))
}

fn int(helper: &mut Helper<'_>, value: i64) -> IdedExpr {
    helper.next_expr(Expr::Literal(LiteralValue::Int(value.into())))
}

fn list(helper: &mut Helper<'_>, elements: Vec<IdedExpr>) -> IdedExpr {
    helper.next_expr(Expr::List(ListExpr::new(elements)))
}

fn call(
    helper: &mut Helper<'_>,
    target: Option<IdedExpr>,
    name: &str,
    args: Vec<IdedExpr>,
) -> IdedExpr {
    helper.next_expr(Expr::Call(CallExpr {
        func_name: name.to_owned(),
        target: target.map(Box::new),
        args,
    }))
}

/// An expression with a name for the value of another.
fn bound(helper: &mut Helper<'_>, name: String, value: IdedExpr, within: IdedExpr) -> IdedExpr {
    let range = list(helper, Vec::new());
    let never = boolean(helper, false);
    let step = ident(helper, &name);
    helper.next_expr(Expr::Comprehension(Box::new(ComprehensionExpr {
        iter_range: range,
        iter_var: UNUSED.to_owned(),
        iter_var2: None,
        accu_var: name,
        accu_init: value,
        loop_cond: never,
        loop_step: step,
        result: within,
    })))
}

/// `cel.bind(name, value, expression)`.
fn bind(helper: &mut Helper<'_>, target: &mut Option<IdedExpr>, args: &mut Arguments) -> Expanded {
    let is_cel =
        matches!(target.as_ref().map(|t| &t.expr), Some(Expr::Ident(name)) if name == "cel");
    let [name, _, _] = args.as_slice() else {
        return Ok(None);
    };
    if !is_cel {
        return Ok(None);
    }
    let name = variable(helper, name)?;
    let (Some(within), Some(value)) = (args.pop(), args.pop()) else {
        return Ok(None);
    };
    Ok(Some(bound(helper, name, value, within)))
}

/// `list.sortBy(name, key)`.
fn sort_by(
    helper: &mut Helper<'_>,
    target: &mut Option<IdedExpr>,
    args: &mut Arguments,
) -> Expanded {
    let [name, _] = args.as_slice() else {
        return Ok(None);
    };
    let name = variable(helper, name)?;
    let (Some(target), Some(key)) = (target.take(), args.pop()) else {
        return Ok(None);
    };
    let (range, input) = (ident(helper, INPUT), ident(helper, INPUT));
    let result = ident(helper, RESULT);
    let key = list(helper, vec![key]);
    let step = call(helper, None, operators::ADD, vec![result, key]);
    let init = list(helper, Vec::new());
    let keys = gather(helper, range, (name, None), init, step);
    let sorted = call(helper, Some(input), SORT_BY, vec![keys]);
    Ok(Some(bound(helper, INPUT.to_owned(), target, sorted)))
}

/// A comprehension that goes through all of its range.
fn gather(
    helper: &mut Helper<'_>,
    range: IdedExpr,
    (first, second): Names,
    init: IdedExpr,
    step: IdedExpr,
) -> IdedExpr {
    let always = boolean(helper, true);
    let result = ident(helper, RESULT);
    comprehension(helper, range, (first, second), init, (always, step), result)
}

fn comprehension(
    helper: &mut Helper<'_>,
    range: IdedExpr,
    (first, second): Names,
    init: IdedExpr,
    (condition, step): (IdedExpr, IdedExpr),
    result: IdedExpr,
) -> IdedExpr {
    helper.next_expr(Expr::Comprehension(Box::new(ComprehensionExpr {
        iter_range: range,
        iter_var: first,
        iter_var2: second,
        accu_var: RESULT.to_owned(),
        accu_init: init,
        loop_cond: condition,
        loop_step: step,
        result,
    })))
}

/// The two variables of a call, and the rest of its arguments; its range.
fn two(
    helper: &Helper<'_>,
    target: &mut Option<IdedExpr>,
    args: &mut Arguments,
) -> Result<Option<(IdedExpr, Names, Arguments)>, ParseError> {
    let [first, second, ..] = args.as_slice() else {
        return Ok(None);
    };
    let (one, other) = (variable(helper, first)?, variable(helper, second)?);
    if one == other {
        let text = format!("duplicate variable name: {one}");
        return Err(helper.new_error(second.id, text));
    }
    let Some(range) = target.take() else {
        return Ok(None);
    };
    let rest = args.split_off(2);
    Ok(Some((range, (one, Some(other)), rest)))
}

/// `range.all(key, value, condition)` and `range.exists(…)`.
fn quantified(
    helper: &mut Helper<'_>,
    target: &mut Option<IdedExpr>,
    args: &mut Arguments,
    all: bool,
) -> Expanded {
    let Some((range, names, mut rest)) = two(helper, target, args)? else {
        return Ok(None);
    };
    let Some(condition) = rest.pop() else {
        return Ok(None);
    };
    let init = boolean(helper, all);
    let mut so_far = ident(helper, RESULT);
    if !all {
        so_far = call(helper, None, "!_", vec![so_far]);
    }
    let goes_on = call(helper, None, operators::NOT_STRICTLY_FALSE, vec![so_far]);
    let operator = if all {
        operators::LOGICAL_AND
    } else {
        operators::LOGICAL_OR
    };
    let before = ident(helper, RESULT);
    let step = call(helper, None, operator, vec![before, condition]);
    let result = ident(helper, RESULT);
    let made = comprehension(helper, range, names, init, (goes_on, step), result);
    Ok(Some(made))
}

/// `range.existsOne(key, value, condition)`.
fn exists_one(
    helper: &mut Helper<'_>,
    target: &mut Option<IdedExpr>,
    args: &mut Arguments,
) -> Expanded {
    let Some((range, names, mut rest)) = two(helper, target, args)? else {
        return Ok(None);
    };
    let Some(condition) = rest.pop() else {
        return Ok(None);
    };
    let (before, one) = (ident(helper, RESULT), int(helper, 1));
    let more = call(helper, None, operators::ADD, vec![before, one]);
    let same = ident(helper, RESULT);
    let step = call(
        helper,
        None,
        operators::CONDITIONAL,
        vec![condition, more, same],
    );
    let (init, always) = (int(helper, 0), boolean(helper, true));
    let (count, one) = (ident(helper, RESULT), int(helper, 1));
    let result = call(helper, None, operators::EQUALS, vec![count, one]);
    let made = comprehension(helper, range, names, init, (always, step), result);
    Ok(Some(made))
}

/// A step that is taken only where the filter says so, if there is one.
fn filtered(helper: &mut Helper<'_>, filter: Option<IdedExpr>, step: IdedExpr) -> IdedExpr {
    match filter {
        Some(filter) => {
            let same = ident(helper, RESULT);
            call(
                helper,
                None,
                operators::CONDITIONAL,
                vec![filter, step, same],
            )
        }
        None => step,
    }
}

/// `range.transformList(key, value, [filter,] element)`.
fn transform_list(
    helper: &mut Helper<'_>,
    target: &mut Option<IdedExpr>,
    args: &mut Arguments,
) -> Expanded {
    let Some((range, names, mut rest)) = two(helper, target, args)? else {
        return Ok(None);
    };
    let Some(element) = rest.pop() else {
        return Ok(None);
    };
    let (before, element) = (ident(helper, RESULT), list(helper, vec![element]));
    let step = call(helper, None, operators::ADD, vec![before, element]);
    let step = filtered(helper, rest.pop(), step);
    let init = list(helper, Vec::new());
    Ok(Some(gather(helper, range, names, init, step)))
}

/// `range.transformMap(key, value, [filter,] other value)`.
fn transform_map(
    helper: &mut Helper<'_>,
    target: &mut Option<IdedExpr>,
    args: &mut Arguments,
) -> Expanded {
    let Some((range, names, mut rest)) = two(helper, target, args)? else {
        return Ok(None);
    };
    let Some(value) = rest.pop() else {
        return Ok(None);
    };
    let (before, key) = (ident(helper, RESULT), ident(helper, &names.0));
    let step = call(helper, None, MAP_INSERT, vec![before, key, value]);
    let step = filtered(helper, rest.pop(), step);
    let init = helper.next_expr(Expr::Map(cel::common::ast::MapExpr {
        entries: Vec::new(),
    }));
    Ok(Some(gather(helper, range, names, init, step)))
}

/// `range.transformMapEntry(key, value, [filter,] {other key: other value})`.
fn transform_entry(
    helper: &mut Helper<'_>,
    target: &mut Option<IdedExpr>,
    args: &mut Arguments,
) -> Expanded {
    let Some((range, names, mut rest)) = two(helper, target, args)? else {
        return Ok(None);
    };
    let Some(entry) = rest.pop() else {
        return Ok(None);
    };
    let before = ident(helper, RESULT);
    let step = call(helper, None, MAP_INSERT, vec![before, entry]);
    let step = filtered(helper, rest.pop(), step);
    let init = helper.next_expr(Expr::Map(cel::common::ast::MapExpr {
        entries: Vec::new(),
    }));
    Ok(Some(gather(helper, range, names, init, step)))
}
