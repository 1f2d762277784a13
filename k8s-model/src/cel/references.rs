//! What an expression speaks of.

use cel::{
    IdedExpr,
    common::ast::{EntryExpr, Expr, LiteralValue, operators},
};

/// The fields of a variable that an expression speaks of by their names, each once.
pub(super) fn fields_of<'e>(expr: &'e IdedExpr, variable: &str) -> Vec<&'e str> {
    let mut out = Vec::new();
    collect(expr, variable, &mut out);
    out
}

fn collect<'e>(expr: &'e IdedExpr, variable: &str, out: &mut Vec<&'e str>) {
    let entry = |entry: &'e EntryExpr, out: &mut Vec<&'e str>| match entry {
        EntryExpr::MapEntry(entry) => {
            collect(&entry.key, variable, out);
            collect(&entry.value, variable, out);
        }
        EntryExpr::StructField(field) => collect(&field.value, variable, out),
    };
    match &expr.expr {
        Expr::Select(select) => {
            let of_it = matches!(&select.operand.expr, Expr::Ident(name) if name == variable);
            if of_it && !out.contains(&select.field.as_str()) {
                out.push(&select.field);
            }
            collect(&select.operand, variable, out);
        }
        Expr::List(list) => {
            for element in &list.elements {
                collect(element, variable, out);
            }
        }
        Expr::Map(map) => map.entries.iter().for_each(|e| entry(&e.expr, out)),
        Expr::Struct(made) => made.entries.iter().for_each(|e| entry(&e.expr, out)),
        Expr::Call(call) => {
            // `variable.?field`.
            if call.func_name == operators::OPT_SELECT
                && let [operand, field] = call.args.as_slice()
                && matches!(&operand.expr, Expr::Ident(name) if name == variable)
                && let Expr::Literal(LiteralValue::String(field)) = &field.expr
                && !out.contains(&field.inner())
            {
                out.push(field.inner());
            }
            if let Some(target) = &call.target {
                collect(target, variable, out);
            }
            for argument in &call.args {
                collect(argument, variable, out);
            }
        }
        Expr::Comprehension(c) => {
            for part in [
                &c.iter_range,
                &c.accu_init,
                &c.loop_cond,
                &c.loop_step,
                &c.result,
            ] {
                collect(part, variable, out);
            }
        }
        Expr::Ident(_) | Expr::Literal(_) | Expr::Unspecified => {}
    }
}
