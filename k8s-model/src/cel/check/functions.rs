//! The functions and operators that expressions may call, and what each takes and gives: those of CEL's standard
//! library, and of cel-go's extensions and Kubernetes' libraries in the versions that upstream's environments have
//! (apiserver's `pkg/cel/environment/base.go`, <https://kubernetes.io/docs/reference/using-api/cel/>).

use std::{collections::HashMap, sync::LazyLock};

use super::types::Type;

/// One way to call a function.
#[derive(Debug)]
pub(super) struct Overload {
    /// What is called of: `x` in `x.f()`. It is the first of `takes`.
    pub(super) is_member: bool,
    pub(super) takes: Vec<Type<'static>>,
    pub(super) gives: Type<'static>,
    /// How many different parameters its types have.
    pub(super) params: usize,
}

/// The functions that only expressions may use which were there before: upstream lets new ones use them from the next
/// minor version on, when every API server of a cluster knows them.
const STORED: [&str; 1] = ["includes"];

/// Whether a function may be used: in expressions that are `stored` already, and in those that make `objects`.
pub(super) fn is_known(name: &str, stored: bool, objects: bool) -> bool {
    match name {
        "jsonpatch.escapeKey" => objects,
        name => stored || !STORED.contains(&name),
    }
}

/// How a function may be called; nothing of a function that there is not.
pub(super) fn overloads(name: &str) -> Option<&'static [Overload]> {
    static ALL: LazyLock<HashMap<&'static str, Vec<Overload>>> = LazyLock::new(|| {
        let mut all: HashMap<&str, Vec<Overload>> = HashMap::new();
        for line in TABLE.lines() {
            if let Some((name, signatures)) = line.split_once(": ") {
                let read = signatures.split(" | ").filter_map(overload);
                all.entry(name).or_default().extend(read);
            }
        }
        all
    });
    ALL.get(name).map(Vec::as_slice)
}

/// Each function with its overloads: `(arguments) result`, or `type.(arguments) result` for what is called of a value.
/// `A` and `B` are any types.
const TABLE: &str = "\
_?_:_: (bool,A,A) A
!_: (bool) bool
@not_strictly_false: (bool) bool
_==_: (A,A) bool
_!=_: (A,A) bool
_<_: (bool,bool) bool | (int,int) bool | (int,double) bool | (int,uint) bool | (uint,uint) bool | (uint,double) bool | (uint,int) bool | (double,double) bool | (double,int) bool | (double,uint) bool | (string,string) bool | (bytes,bytes) bool | (timestamp,timestamp) bool | (duration,duration) bool
_<=_: (bool,bool) bool | (int,int) bool | (int,double) bool | (int,uint) bool | (uint,uint) bool | (uint,double) bool | (uint,int) bool | (double,double) bool | (double,int) bool | (double,uint) bool | (string,string) bool | (bytes,bytes) bool | (timestamp,timestamp) bool | (duration,duration) bool
_>_: (bool,bool) bool | (int,int) bool | (int,double) bool | (int,uint) bool | (uint,uint) bool | (uint,double) bool | (uint,int) bool | (double,double) bool | (double,int) bool | (double,uint) bool | (string,string) bool | (bytes,bytes) bool | (timestamp,timestamp) bool | (duration,duration) bool
_>=_: (bool,bool) bool | (int,int) bool | (int,double) bool | (int,uint) bool | (uint,uint) bool | (uint,double) bool | (uint,int) bool | (double,double) bool | (double,int) bool | (double,uint) bool | (string,string) bool | (bytes,bytes) bool | (timestamp,timestamp) bool | (duration,duration) bool
_+_: (bytes,bytes) bytes | (double,double) double | (duration,duration) duration | (duration,timestamp) timestamp | (timestamp,duration) timestamp | (int,int) int | (list(A),list(A)) list(A) | (string,string) string | (uint,uint) uint
_-_: (double,double) double | (duration,duration) duration | (int,int) int | (timestamp,duration) timestamp | (timestamp,timestamp) duration | (uint,uint) uint
_*_: (double,double) double | (int,int) int | (uint,uint) uint
_/_: (double,double) double | (int,int) int | (uint,uint) uint
_%_: (int,int) int | (uint,uint) uint
-_: (double) double | (int) int
_[_]: (list(A),int) A | (map(A,B),A) B | (optional(list(A)),int) optional(A) | (optional(map(A,B)),A) optional(B)
_[?_]: (list(A),int) optional(A) | (optional(list(A)),int) optional(A) | (map(A,B),A) optional(B) | (optional(map(A,B)),A) optional(B)
@in: (A,list(A)) bool | (A,map(A,B)) bool
size: (bytes) int | bytes.() int | (list(A)) int | list(A).() int | (map(A,B)) int | map(A,B).() int | (string) int | string.() int
type: (A) type
dyn: (A) dyn
bool: (bool) bool | (string) bool
bytes: (bytes) bytes | (string) bytes
double: (double) double | (int) double | (string) double | (uint) double
duration: (duration) duration | (int) duration | (string) duration
int: (int) int | (double) int | (duration) int | (string) int | (timestamp) int | (uint) int
string: (string) string | (bool) string | (bytes) string | (double) string | (duration) string | (int) string | (timestamp) string | (uint) string | (net.IP) string | (net.CIDR) string
timestamp: (timestamp) timestamp | (int) timestamp | (string) timestamp
uint: (uint) uint | (double) uint | (int) uint | (string) uint
matches: (string,string) bool | string.(string) bool
contains: string.(string) bool
endsWith: string.(string) bool
startsWith: string.(string) bool
getDate: timestamp.() int | timestamp.(string) int
getDayOfMonth: timestamp.() int | timestamp.(string) int
getDayOfWeek: timestamp.() int | timestamp.(string) int
getDayOfYear: timestamp.() int | timestamp.(string) int
getFullYear: timestamp.() int | timestamp.(string) int
getMonth: timestamp.() int | timestamp.(string) int
getHours: timestamp.() int | timestamp.(string) int | duration.() int
getMinutes: timestamp.() int | timestamp.(string) int | duration.() int
getSeconds: timestamp.() int | timestamp.(string) int | duration.() int
getMilliseconds: timestamp.() int | timestamp.(string) int | duration.() int
optional.of: (A) optional(A)
optional.none: () optional(A)
optional.ofNonZeroValue: (A) optional(A)
optional.unwrap: (list(optional(A))) list(A)
unwrapOpt: list(optional(A)).() list(A)
hasValue: optional(A).() bool
value: optional(A).() A
or: optional(A).(optional(A)) optional(A)
orValue: optional(A).(A) A
charAt: string.(int) string
format: string.(list(dyn)) string
indexOf: string.(string) int | string.(string,int) int | list(A).(A) int
lastIndexOf: string.(string) int | string.(string,int) int | list(A).(A) int
join: list(string).() string | list(string).(string) string
lowerAscii: string.() string
upperAscii: string.() string
replace: string.(string,string) string | string.(string,string,int) string
split: string.(string) list(string) | string.(string,int) list(string)
substring: string.(int) string | string.(int,int) string
trim: string.() string
reverse: list(A).() list(A)
strings.quote: (string) string
sets.contains: (list(A),list(A)) bool
sets.equivalent: (list(A),list(A)) bool
sets.intersects: (list(A),list(A)) bool
isSorted: list(int).() bool | list(uint).() bool | list(double).() bool | list(bool).() bool | list(duration).() bool | list(timestamp).() bool | list(string).() bool | list(bytes).() bool
sum: list(int).() int | list(uint).() uint | list(double).() double | list(duration).() duration
max: list(int).() int | list(uint).() uint | list(double).() double | list(bool).() bool | list(duration).() duration | list(timestamp).() timestamp | list(string).() string | list(bytes).() bytes
min: list(int).() int | list(uint).() uint | list(double).() double | list(bool).() bool | list(duration).() duration | list(timestamp).() timestamp | list(string).() string | list(bytes).() bytes
slice: list(A).(int,int) list(A)
flatten: list(list(A)).() list(A) | list(dyn).(int) list(dyn)
sort: list(int).() list(int) | list(uint).() list(uint) | list(double).() list(double) | list(bool).() list(bool) | list(duration).() list(duration) | list(timestamp).() list(timestamp) | list(string).() list(string) | list(bytes).() list(bytes)
@sortBy: list(A).(list(B)) list(A)
distinct: list(A).() list(A)
first: list(A).() optional(A)
last: list(A).() optional(A)
lists.range: (int) list(int)
includes: dyn.(dyn) bool
@mapInsert: (map(A,B),map(A,B)) map(A,B) | (map(A,B),A,B) map(A,B)
find: string.(string) string
findAll: string.(string) list(string) | string.(string,int) list(string)
url: (string) kubernetes.URL
isURL: (string) bool
getScheme: kubernetes.URL.() string
getHost: kubernetes.URL.() string
getHostname: kubernetes.URL.() string
getPort: kubernetes.URL.() string
getEscapedPath: kubernetes.URL.() string
getQuery: kubernetes.URL.() map(string,list(string))
quantity: (string) kubernetes.Quantity
isQuantity: (string) bool
sign: kubernetes.Quantity.() int
isInteger: kubernetes.Quantity.() bool
asInteger: kubernetes.Quantity.() int
asApproximateFloat: kubernetes.Quantity.() double
add: kubernetes.Quantity.(kubernetes.Quantity) kubernetes.Quantity | kubernetes.Quantity.(int) kubernetes.Quantity
sub: kubernetes.Quantity.(kubernetes.Quantity) kubernetes.Quantity | kubernetes.Quantity.(int) kubernetes.Quantity
isGreaterThan: kubernetes.Quantity.(kubernetes.Quantity) bool | kubernetes.Semver.(kubernetes.Semver) bool
isLessThan: kubernetes.Quantity.(kubernetes.Quantity) bool | kubernetes.Semver.(kubernetes.Semver) bool
compareTo: kubernetes.Quantity.(kubernetes.Quantity) int | kubernetes.Semver.(kubernetes.Semver) int
semver: (string) kubernetes.Semver | (string,bool) kubernetes.Semver
isSemver: (string) bool | (string,bool) bool
major: kubernetes.Semver.() int
minor: kubernetes.Semver.() int
patch: kubernetes.Semver.() int
ip: (string) net.IP | net.CIDR.() net.IP
isIP: (string) bool
ip.isCanonical: (string) bool
family: net.IP.() int
isUnspecified: net.IP.() bool
isLoopback: net.IP.() bool
isLinkLocalMulticast: net.IP.() bool
isLinkLocalUnicast: net.IP.() bool
isGlobalUnicast: net.IP.() bool
cidr: (string) net.CIDR
isCIDR: (string) bool
containsIP: net.CIDR.(string) bool | net.CIDR.(net.IP) bool
containsCIDR: net.CIDR.(string) bool | net.CIDR.(net.CIDR) bool
prefixLength: net.CIDR.() int
masked: net.CIDR.() net.CIDR
format.named: (string) optional(kubernetes.NamedFormat)
validate: kubernetes.NamedFormat.(string) optional(list(string))
path: kubernetes.authorization.Authorizer.(string) kubernetes.authorization.PathCheck
group: kubernetes.authorization.Authorizer.(string) kubernetes.authorization.GroupCheck
serviceAccount: kubernetes.authorization.Authorizer.(string,string) kubernetes.authorization.Authorizer
resource: kubernetes.authorization.GroupCheck.(string) kubernetes.authorization.ResourceCheck
subresource: kubernetes.authorization.ResourceCheck.(string) kubernetes.authorization.ResourceCheck
namespace: kubernetes.authorization.ResourceCheck.(string) kubernetes.authorization.ResourceCheck
name: kubernetes.authorization.ResourceCheck.(string) kubernetes.authorization.ResourceCheck
fieldSelector: kubernetes.authorization.ResourceCheck.(string) kubernetes.authorization.ResourceCheck
labelSelector: kubernetes.authorization.ResourceCheck.(string) kubernetes.authorization.ResourceCheck
check: kubernetes.authorization.PathCheck.(string) kubernetes.authorization.Decision | kubernetes.authorization.ResourceCheck.(string) kubernetes.authorization.Decision
allowed: kubernetes.authorization.Decision.() bool
errored: kubernetes.authorization.Decision.() bool
reason: kubernetes.authorization.Decision.() string
error: kubernetes.authorization.Decision.() string
jsonpatch.escapeKey: (string) string
";

/// Reads one of the table's signatures.
fn overload(text: &'static str) -> Option<Overload> {
    let mut rest = text;
    let target = match rest.split_once(".(") {
        Some((target, arguments)) => {
            rest = arguments;
            Some(one(target)?)
        }
        None => {
            rest = rest.strip_prefix('(')?;
            None
        }
    };
    let mut takes: Vec<_> = target.iter().cloned().collect();
    while !rest.starts_with(')') {
        let (ty, after) = read(rest)?;
        takes.push(ty);
        rest = after.strip_prefix(',').unwrap_or(after);
    }
    let has = |param: &str| {
        text.split([',', '(', ')', ' ', '.'])
            .any(|word| word == param)
    };
    Some(Overload {
        is_member: target.is_some(),
        takes,
        gives: one(rest.strip_prefix(") ")?)?,
        params: match (has("A"), has("B")) {
            (_, true) => 2,
            (true, false) => 1,
            (false, false) => 0,
        },
    })
}

fn one(text: &'static str) -> Option<Type<'static>> {
    let (ty, rest) = read(text)?;
    rest.is_empty().then_some(ty)
}

/// A type, and what follows it.
fn read(text: &'static str) -> Option<(Type<'static>, &'static str)> {
    let end = text.find(['(', ')', ',']).unwrap_or(text.len());
    let (name, rest) = text.split_at(end);
    let part = |rest: &'static str| read(rest.strip_prefix(['(', ','])?);
    Some(match name {
        "list" | "optional" => {
            let (of, rest) = part(rest)?;
            let made = match name {
                "list" => Type::list(of),
                _ => Type::optional(of),
            };
            (made, rest.strip_prefix(')')?)
        }
        "map" => {
            let (keys, rest) = part(rest)?;
            let (values, rest) = part(rest)?;
            (Type::map(keys, values), rest.strip_prefix(')')?)
        }
        "A" => (Type::Param(0), rest),
        "B" => (Type::Param(1), rest),
        "dyn" => (Type::Dyn, rest),
        "bool" => (Type::Bool, rest),
        "int" => (Type::Int, rest),
        "uint" => (Type::Uint, rest),
        "double" => (Type::Double, rest),
        "string" => (Type::String, rest),
        "bytes" => (Type::Bytes, rest),
        "duration" => (Type::Duration, rest),
        "timestamp" => (Type::Timestamp, rest),
        "type" => (Type::Kind, rest),
        own if own.contains('.') => (Type::Own(own), rest),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_signatures_can_be_read() {
        for line in TABLE.lines() {
            let (name, signatures) = line.split_once(": ").unwrap();
            assert_eq!(
                overloads(name).unwrap().len(),
                signatures.split(" | ").count(),
                "{line}"
            );
        }
    }
}
