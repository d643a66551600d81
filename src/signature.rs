// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Prototypes of the kernel's functions, as C writes them, from its BTF. The
//! names of parameters belong to a kfunc's interface: the verifier reads their
//! suffixes.

use std::collections::BTreeMap;

use libbpf_rs::btf::types::FuncProto;
use libbpf_rs::btf::{Btf, BtfKind, BtfType};

/// The prototypes of those functions that the running kernel has.
pub fn of_kernel(names: &[&str]) -> BTreeMap<String, String> {
    let Ok(btf) = Btf::from_vmlinux() else {
        return BTreeMap::new();
    };
    btf.type_by_kind::<BtfType<'_>>()
        .filter(|found| found.kind() == BtfKind::Func)
        .filter_map(|found| {
            let name = found.name()?.to_str()?;
            names.contains(&name).then_some(())?;
            let prototype = FuncProto::try_from(found.next_type()?).ok()?;
            Some((name.to_string(), prototype_text(&btf, &prototype)))
        })
        .collect()
}

fn prototype_text(btf: &Btf<'_>, prototype: &FuncProto<'_>) -> String {
    let parameters: Vec<String> = prototype
        .iter()
        .map(|parameter| {
            let name = parameter.name.and_then(|name| name.to_str());
            declaration(btf.type_by_id(parameter.ty), name.unwrap_or_default())
        })
        .collect();
    let result = declaration(prototype.next_type(), "");
    format!("{result} ({})", parameters.join(", "))
}

/// `const struct x *name`: of pointers, qualifiers and what has a name.
fn declaration(of: Option<BtfType<'_>>, name: &str) -> String {
    let mut stars = String::new();
    let mut qualifiers = String::new();
    let mut current = of;
    let base = loop {
        let Some(found) = current else {
            break "void".to_string();
        };
        let named = found.name().and_then(|name| name.to_str()).unwrap_or("?");
        match found.kind() {
            BtfKind::Void => break "void".to_string(),
            BtfKind::Ptr => stars.push('*'),
            BtfKind::Const => qualifiers.push_str("const "),
            BtfKind::Volatile => qualifiers.push_str("volatile "),
            BtfKind::Struct => break format!("struct {named}"),
            BtfKind::Union => break format!("union {named}"),
            BtfKind::Enum | BtfKind::Enum64 => break format!("enum {named}"),
            BtfKind::Fwd => break format!("struct {named}"),
            BtfKind::Restrict | BtfKind::TypeTag => {}
            _ => break named.to_string(),
        }
        current = found.next_type();
    };
    format!("{qualifiers}{base} {stars}{name}")
        .trim_end()
        .to_string()
}
